-- A journal that the program of commit ec187ec wrote, as SQLite dumps it: of secrets that another system
-- rotates. Its signing key is the Ed25519 key whose 32 bytes are 0 to 31.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE checkpoints (
	number INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	heads TEXT NOT NULL, 
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	key_id TEXT NOT NULL, 
	signature TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "checkpoints" VALUES(1,'2026-01-01T00:00:00.000000+00:00','{"(key)":[1,"56475aa75463474c"]}','0000000000000000000000000000000000000000000000000000000000000000','9653478e82fa482786c6b100bad7f0f4a4267549afe6944199d994cac0d78bc7','56475aa75463474c','lW9Cm2LtztyUf141k28DjYJczC/vf64UjKSLtZJubSgTOQK4dPc22ZhzziBpXlL7wRW0vDX02H/OyOUJ5J7ICw==');
INSERT INTO "checkpoints" VALUES(2,'2026-01-01T02:07:00.000000+00:00','{"asked":[2,"d02d8d24a0f5f2077937d0560d5e8b3c05683042791389455876094980a63c58"],"failing":[3,"0db984154a5b9589025eb2f99ab056922b7ab17283929476263f1c6172cb15c3"],"given-up":[4,"e426fe12ad55c3fad5f354e5ce4101684212b192cbd0005075ec178caaacaa8b"],"noticed":[3,"2a82c6f0cc806695ea40c9d3f05b34fe69ba071abef343ff17727f31af526e46"],"proven":[3,"7c05aeec46d2aa1412d3dd8c3435cc0c743fdd10cc432144528f3873fa2d4804"],"refused":[4,"1457eb4a41b1f93d9c4b2ecb87c59ccedae7aa2ebfa2455603dff220a9f65cd2"],"rotated":[2,"a950665fccfdd6984939f3acebabfb112fa850c742fe31fca85e8933765a2a4d"]}','9653478e82fa482786c6b100bad7f0f4a4267549afe6944199d994cac0d78bc7','f34334af3ae5fd311a61c00fbdf890973d454602a84540b94165a86f083945ab','56475aa75463474c','dhJoaCwfoeJoGIU1ZPK1z3/YvEsofqDnp9Iy4vSH6VUCEi9O9xs7YifOkVGROZKuv9yAM5bn8RXbx3a6Uts5DQ==');
CREATE TABLE consumers (
	secret TEXT NOT NULL, 
	consumer TEXT NOT NULL, 
	instance TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	version TEXT NOT NULL, 
	level TEXT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (secret, consumer, instance)
);
CREATE TABLE events (
	secret TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	fence INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	rotation_id TEXT, 
	step TEXT, 
	data TEXT NOT NULL, 
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, mac TEXT, 
	PRIMARY KEY (secret, seq)
);
INSERT INTO "events" VALUES('proven',1,'2026-01-01T00:00:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:00:00+00:00","path":"proven","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','58c6a5e74c099d94db5c8b3497bb4dc7c2e1966b5e976d1d2b1a666a5d6909ef','f9bee4346b04483015abaeb0379a62c15a1e275f73ae7ce7b40423c5ad64ebf0');
INSERT INTO "events" VALUES('noticed',1,'2026-01-01T00:01:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:01:00+00:00","path":"noticed","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','4b32ff85aa5e913254d22bbc78f47217d23ae580d9fff7f88da6cbd0454fdbb8','4feb30b26fbee54cbccd8b4002e6f14eaf746e67897f3ab824d621b978294d56');
INSERT INTO "events" VALUES('asked',1,'2026-01-01T00:02:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:02:00+00:00","path":"asked","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','8dc7cb9e8e86e3ec36a6cb3a25286ed360de7312287ae9c62218008f8219152b','9fa35c26cb2f371723755f1c02d731c83fb01ec1fe7799341aa4cbfcbaef5259');
INSERT INTO "events" VALUES('rotated',1,'2026-01-01T00:03:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:03:00+00:00","path":"rotated","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','a0b9bc4279fd6f4d4b960e0c3bd88834f04e99d9131903e37b5744b9c1a1ed57','105ab1646839977e50bd73579a46c7fc15d070c6cf3f0dd40a67af90c00e166a');
INSERT INTO "events" VALUES('failing',1,'2026-01-01T00:04:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:04:00+00:00","path":"failing","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','76bbb048a3989566aa5683341ed57f57c6bb7b4157fbbd19d88e7fc2da8549f9','c19c8b5a3b6d587eac6363c181d9e5d32ab82a864d3be75764d61e67c7f7f46b');
INSERT INTO "events" VALUES('refused',1,'2026-01-01T00:05:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:05:00+00:00","path":"refused","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','476bfba00458e4f1ace5b5a59742d933c4ec36ef93d86c525a92672c0a531b06','2f12624fa3582044cd2c20649f1e9fd2942c2895d917e400c0586b902a21d62d');
INSERT INTO "events" VALUES('given-up',1,'2026-01-01T00:06:00.000000+00:00','app@old',1,'adopted',NULL,NULL,'{"backend":"engine","login":"app","next_due":"2026-01-31T00:06:00+00:00","path":"given-up","reason":"taken over","target":"db","timing":"9a8cfdcb8f7a62c1","version":"0"}','0000000000000000000000000000000000000000000000000000000000000000','a5a9060faf43b162ad4cc2b7522239c1a79a12e4cb8da4793b4121340f9cad2c','87602dab76bd7e7cd2c53d80c203608b50727c4f6dc560f180f675556aa3a654');
INSERT INTO "events" VALUES('proven',2,'2026-01-01T00:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:00:00+00:00","next_try":"2026-01-01T00:07:00+00:00","old_login":"app","old_version":"0","path":"proven","reason":"the quarter is over","request":"e2db611a-91bf-4394-a973-3a9247d58fa3"}','58c6a5e74c099d94db5c8b3497bb4dc7c2e1966b5e976d1d2b1a666a5d6909ef','354a98f11ad67c32c288d90979104355ac6342ae7eaf2866aad4826b3cf682db','096a6292c213cde5fda7b0a7e40513c3aaed6f2ce71e04a7eecf645dade8dde3');
INSERT INTO "events" VALUES('proven',3,'2026-01-01T00:07:00.000000+00:00','app@old',2,'followed',NULL,NULL,'{"asked":1,"backend":"engine","checks":[{"detail":"","name":"logs in","ok":true}],"login":"app","next_due":"2026-01-31T00:07:00+00:00","old_accepted_before":true,"old_login":"app","old_refused":true,"old_version":"0","request":"e2db611a-91bf-4394-a973-3a9247d58fa3","target":"db","timing":"9a8cfdcb8f7a62c1","version":"1"}','354a98f11ad67c32c288d90979104355ac6342ae7eaf2866aad4826b3cf682db','7c05aeec46d2aa1412d3dd8c3435cc0c743fdd10cc432144528f3873fa2d4804','b9d28d619a86932f7b580573ff3131a666bc07a147d91e83e204f56e8d798183');
INSERT INTO "events" VALUES('noticed',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'followed',NULL,NULL,'{"backend":"engine","checks":[{"detail":"","name":"logs in","ok":true}],"login":"app","next_due":"2026-01-31T01:07:00+00:00","noticed":true,"request":null,"rotated_at":"2026-01-01T01:07:00+00:00","target":"db","timing":"9a8cfdcb8f7a62c1","version":"1"}','4b32ff85aa5e913254d22bbc78f47217d23ae580d9fff7f88da6cbd0454fdbb8','20d955a7a5f0db0ce6ddc77856d29c92ad6ab47275bf2c19df4604df66d00afe','16c09b9917e89f6a3ec506515b7b417288f2b0a85113448f16fd2cbde4824573');
INSERT INTO "events" VALUES('noticed',3,'2026-01-01T01:07:00.000000+00:00','app@old',2,'checked',NULL,NULL,'{"accepted":true,"known":true,"login":"app","version":"1"}','20d955a7a5f0db0ce6ddc77856d29c92ad6ab47275bf2c19df4604df66d00afe','2a82c6f0cc806695ea40c9d3f05b34fe69ba071abef343ff17727f31af526e46','70e4b771a737254a20ec90e44986f40de1383ffa4d60e0253d4faf89e8f8d53c');
INSERT INTO "events" VALUES('asked',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:02:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"0","path":"asked","reason":"the quarter is over","request":"c5501830-0372-455f-9235-f11829fb388c"}','8dc7cb9e8e86e3ec36a6cb3a25286ed360de7312287ae9c62218008f8219152b','d02d8d24a0f5f2077937d0560d5e8b3c05683042791389455876094980a63c58','402a183713b566f08ba74b3fb3f8db05afba6590eb55acea378dcedf74733994');
INSERT INTO "events" VALUES('rotated',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:03:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"0","path":"rotated","reason":"the quarter is over","request":"22e44cb6-37f0-4210-8370-7a90b405420f"}','a0b9bc4279fd6f4d4b960e0c3bd88834f04e99d9131903e37b5744b9c1a1ed57','a950665fccfdd6984939f3acebabfb112fa850c742fe31fca85e8933765a2a4d','be7ee6e97971f79e35e133610aeab7ef7adef2e05c25fc3c773f547b2600d215');
INSERT INTO "events" VALUES('failing',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:04:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"0","path":"failing","reason":"the quarter is over","request":"b169779e-dfb5-4934-a405-157f54b12eae"}','76bbb048a3989566aa5683341ed57f57c6bb7b4157fbbd19d88e7fc2da8549f9','e8a68594f92abfa5e25f38566eed743a2ab69f790d685dfa4b5c7d14388a4f3f','7bc31a9a41355e020323e107d0967764ef4e3efed4eacfc04c8bdbe1891434d0');
INSERT INTO "events" VALUES('failing',3,'2026-01-01T01:07:00.000000+00:00','app@old',2,'failed',NULL,NULL,'{"hint":"","kind":"transient","next_try":"2026-01-01T01:07:00.936452+00:00","origin":"backend engine","request":"b169779e-dfb5-4934-a405-157f54b12eae","safety":"The application is safe: the credential that is served authenticated just now.","what":"the engine does not reach the database."}','e8a68594f92abfa5e25f38566eed743a2ab69f790d685dfa4b5c7d14388a4f3f','0db984154a5b9589025eb2f99ab056922b7ab17283929476263f1c6172cb15c3','495cf4221c67d6f934df13755edfb430356f7a62a7a511ef46e3874dda48a219');
INSERT INTO "events" VALUES('refused',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:05:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"0","path":"refused","reason":"the quarter is over","request":"62d11e88-7eb0-466d-9877-f8c6eff26b50"}','476bfba00458e4f1ace5b5a59742d933c4ec36ef93d86c525a92672c0a531b06','13f4b5c9b029f13a30b1b4911b3a7412726d47b6ac20690f8642f13de1f06dca','8c46c24a33dd551d0c5ea5dace5102341f1d2623436526d7c8c7b9bb3cb1d126');
INSERT INTO "events" VALUES('refused',3,'2026-01-01T01:07:00.000000+00:00','app@old',2,'failed',NULL,NULL,'{"hint":"","kind":"refused","next_try":"2026-01-01T01:07:00+00:00","origin":null,"request":"62d11e88-7eb0-466d-9877-f8c6eff26b50","safety":"The application is NOT safe: the target rejects the credential that is served.","what":"engine has rotated it, and the target rejects login ''app'' with what is served now (login ''app'' is not let in.)."}','13f4b5c9b029f13a30b1b4911b3a7412726d47b6ac20690f8642f13de1f06dca','c4813f7441b8ab685485fb8acc6d1dd0e0bbeefd0207a11da494d52f514f7f48','e59b6b461b7a9060543f91090a943da7087ab5803ca89e222726167fa4512fa5');
INSERT INTO "events" VALUES('refused',4,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":2,"backend":"engine","due":"2026-01-31T00:05:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"1","path":"refused","reason":"the target refuses what is served","request":"10af3177-d161-4795-87a7-66ec30e40374"}','c4813f7441b8ab685485fb8acc6d1dd0e0bbeefd0207a11da494d52f514f7f48','1457eb4a41b1f93d9c4b2ecb87c59ccedae7aa2ebfa2455603dff220a9f65cd2','6690e81d739912e0386cae81fc37bee3d6560927f945155382d0a4d0bb80c665');
INSERT INTO "events" VALUES('given-up',2,'2026-01-01T01:07:00.000000+00:00','app@old',2,'delegated',NULL,NULL,'{"asked":1,"backend":"engine","due":"2026-01-31T00:06:00+00:00","next_try":"2026-01-01T01:07:00+00:00","old_login":"app","old_version":"0","path":"given-up","reason":"the quarter is over","request":"58a9905c-ad87-4d4c-b7e2-983f27745ccb"}','a5a9060faf43b162ad4cc2b7522239c1a79a12e4cb8da4793b4121340f9cad2c','b1384163d7b8c612ed50d943763e8d334c6c6962495b19da75bc095322c0c231','804db95b26d50d14fd1910842a117fa28c8df03fdf65cd4f0ffb3f55e5f396f5');
INSERT INTO "events" VALUES('given-up',3,'2026-01-01T01:07:00.000000+00:00','app@old',2,'failed',NULL,NULL,'{"hint":"Grant it.","kind":"denied","next_try":"2026-01-31T00:06:00+00:00","origin":"backend engine","request":"58a9905c-ad87-4d4c-b7e2-983f27745ccb","safety":"The application is safe: the credential that is served authenticated just now.","what":"the engine has no right to change the password."}','b1384163d7b8c612ed50d943763e8d334c6c6962495b19da75bc095322c0c231','fefe5ebc8abe4843086f0a3ecd5ec4cf0f04f47790442f32ffb014e5b0daa39d','3795289849483b576b70959254876f142b4f61d5d2554538923addbe2c19d866');
INSERT INTO "events" VALUES('given-up',4,'2026-01-01T01:07:00.000000+00:00','app@old',3,'parked',NULL,NULL,'{"hint":"Grant it.","reason":"denied: the engine has no right to change the password.","what":"denied: the engine has no right to change the password."}','fefe5ebc8abe4843086f0a3ecd5ec4cf0f04f47790442f32ffb014e5b0daa39d','e426fe12ad55c3fad5f354e5ce4101684212b192cbd0005075ec178caaacaa8b','4238d32325608746c542da94641619c87d9a63ebdd5b04511d38057297e85d7f');
CREATE TABLE leases (
	id TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	target TEXT NOT NULL, 
	state TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	login TEXT, 
	requested_at TEXT NOT NULL, 
	begun_at TEXT NOT NULL, 
	ends_at TEXT NOT NULL, 
	latest TEXT NOT NULL, 
	instances TEXT NOT NULL, 
	next_at TEXT, 
	failures INTEGER NOT NULL, 
	problem TEXT, 
	hint TEXT, 
	outcome TEXT, 
	ended_at TEXT, 
	seal TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE observations (
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	at TEXT NOT NULL, 
	until TEXT, 
	data TEXT NOT NULL, 
	PRIMARY KEY (kind, subject)
);
CREATE TABLE read_logs (
	log TEXT NOT NULL, 
	position BIGINT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (log)
);
CREATE TABLE reads (
	secret TEXT NOT NULL, 
	version TEXT NOT NULL, 
	identity TEXT NOT NULL, 
	address TEXT NOT NULL, 
	first TEXT NOT NULL, 
	last TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (secret, version, identity, address)
);
CREATE TABLE requests (
	writer TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	request TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	data TEXT NOT NULL, 
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	signature TEXT, 
	PRIMARY KEY (writer, seq)
);
CREATE TABLE rotations (
	id TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	plugin TEXT NOT NULL, 
	strategy TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	old_version TEXT, 
	old_login TEXT, 
	new_version TEXT, 
	new_login TEXT, 
	published_at TEXT, 
	old_refused INTEGER, 
	ended_at TEXT, 
	outcome TEXT, 
	seal TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE secrets (
	name TEXT NOT NULL, 
	version TEXT, 
	login TEXT, 
	adopted TEXT NOT NULL, 
	parked TEXT, 
	failures INTEGER NOT NULL, 
	rotated_at TEXT, 
	next_due TEXT, 
	since TEXT, 
	timing TEXT, 
	last_outcome TEXT, 
	open_rotation TEXT, 
	seq INTEGER NOT NULL, 
	head TEXT NOT NULL, 
	lease_holder TEXT, 
	lease_fence INTEGER NOT NULL, 
	lease_expires TEXT, 
	seal TEXT NOT NULL, details TEXT, 
	PRIMARY KEY (name)
);
INSERT INTO "secrets" VALUES('proven','1','app','["app"]',NULL,0,'2026-01-01T00:07:00.000000+00:00','2026-01-31T00:07:00.000000+00:00','2026-01-01T00:07:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,3,'7c05aeec46d2aa1412d3dd8c3435cc0c743fdd10cc432144528f3873fa2d4804',NULL,2,NULL,'mac:f5a08348fac5bf03f9ba5da9c2fa742148d1956020635afb3e1a19bcbd7e19f0','{"former_since":"2026-01-01T00:00:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('noticed','1','app','["app"]',NULL,0,'2026-01-01T01:07:00.000000+00:00','2026-01-31T01:07:00.000000+00:00','2026-01-01T01:07:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,3,'2a82c6f0cc806695ea40c9d3f05b34fe69ba071abef343ff17727f31af526e46',NULL,2,NULL,'mac:7595653a445bb4af299292501bd788b44593d0715ba5bc7bbb2e51fc8b3da180','{"former_since":"2026-01-01T00:01:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('asked','0','app','["app"]',NULL,0,NULL,'2026-01-01T01:07:00.000000+00:00','2026-01-01T00:02:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,2,'d02d8d24a0f5f2077937d0560d5e8b3c05683042791389455876094980a63c58',NULL,2,NULL,'mac:9ee7f99b06069d859da518215d78a2305418f836ff312be27780c6c33c3a682b','{"due_since":"2026-01-31T00:02:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('rotated','0','app','["app"]',NULL,0,NULL,'2026-01-01T01:07:00.000000+00:00','2026-01-01T00:03:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,2,'a950665fccfdd6984939f3acebabfb112fa850c742fe31fca85e8933765a2a4d',NULL,2,NULL,'mac:7270dd098476100a730e4ac2696ccc1161de1e6277a809e72f02b1e382e9258d','{"due_since":"2026-01-31T00:03:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('failing','0','app','["app"]',NULL,1,NULL,'2026-01-01T01:07:00.936452+00:00','2026-01-01T00:04:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,3,'0db984154a5b9589025eb2f99ab056922b7ab17283929476263f1c6172cb15c3',NULL,2,NULL,'mac:ccab00df71000523cef9ab0d479456121abf8114bfce75d36be099529df00f1e','{"due_since":"2026-01-31T00:04:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('refused','0','app','["app"]',NULL,1,NULL,'2026-01-01T01:07:00.000000+00:00','2026-01-01T00:05:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,4,'1457eb4a41b1f93d9c4b2ecb87c59ccedae7aa2ebfa2455603dff220a9f65cd2',NULL,3,NULL,'mac:057380b300e1633554934b94e49f35e72af4ad9b1aaea8477624ecea7ee94307','{"due_since":"2026-01-31T00:05:00.000000+00:00"}');
INSERT INTO "secrets" VALUES('given-up','0','app','["app"]','denied: the engine has no right to change the password.',1,NULL,'2026-01-31T00:06:00.000000+00:00','2026-01-01T00:06:00.000000+00:00','9a8cfdcb8f7a62c1',NULL,NULL,4,'e426fe12ad55c3fad5f354e5ce4101684212b192cbd0005075ec178caaacaa8b',NULL,3,NULL,'mac:6833cdb5169a9ccfe330a7496cef893210b67eff49002dace091398d6e92a9a4','{"due_since":"2026-01-31T00:06:00.000000+00:00","parked_hint":"Grant it."}');
CREATE INDEX events_of_a_rotation ON events (rotation_id);
CREATE INDEX secrets_due ON secrets (next_due) WHERE parked IS NULL AND open_rotation IS NULL;
CREATE INDEX secrets_open ON secrets (open_rotation) WHERE open_rotation IS NOT NULL;
CREATE INDEX rotations_of_a_secret ON rotations (secret, started_at);
CREATE UNIQUE INDEX one_open_rotation_a_secret ON rotations (secret) WHERE ended_at IS NULL;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE INDEX secrets_in_incident ON secrets (name) WHERE details LIKE '%"incident":%';
CREATE INDEX events_of_leaks ON events (at) WHERE kind = 'leaked' AND rotation_id IS NULL;
CREATE INDEX entries_of_a_request ON requests (request);
CREATE INDEX requests_by_time ON requests (at);
CREATE TRIGGER requests_no_update BEFORE UPDATE ON requests BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER requests_no_delete BEFORE DELETE ON requests BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE INDEX leases_to_do ON leases (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX leases_open ON leases (secret) WHERE next_at IS NOT NULL;
CREATE INDEX leases_by_time ON leases (requested_at);
COMMIT;
