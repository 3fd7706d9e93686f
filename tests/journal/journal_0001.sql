-- A journal that the program of revision 0001 wrote, as SQLite dumps it.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "checkpoints" VALUES(1,'2026-01-01T00:00:33.000000+00:00','{"drifted":[2,"198315779136a7da7325c0fa44f6429b4b64fac3e5b9832a314b112d178c312b"],"healthy":[16,"54b4becf176e86dec1498cef233d369172e51297140dbb1d5b1385464bd78bb7"],"open":[10,"ce3eab15eb43b9208775843874f16b8e076dd5108cbe1c41771f403ce284a5e0"],"parked":[2,"5a5bf87dbbddb1767cc597e173330720ca5484426d9029e4fce18608d68eb74b"],"refused":[3,"9ca67cb7999a497adf3c03fc418e20a505f9f688b0a8cc6424ec4a18236092cc"]}','0000000000000000000000000000000000000000000000000000000000000000','be1d691a2c93f949f6f824943f605ae01c4ebf37e6c0afd3a9e4a29ab1a648d0','841d9d0089ab902d','ScoIoJNgwFGpYC19O+ovVocXm+NmAQk52I+jAVSWbTYx2lykML8wrd/W3bOGWsl0VYyAgy8ZlG/QLmrsFD7VCg==');
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
	hash TEXT NOT NULL, 
	PRIMARY KEY (secret, seq)
);
INSERT INTO "events" VALUES('healthy',1,'2026-01-01T00:00:01.000000+00:00','cli/vm/1',1,'adopted',NULL,NULL,'{"backend":"local","login":"app","path":"p","reason":"","target":"main","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','d53e73ad69f5b56d13d2c18c52004471c58ea3505f396b70a469412461d5ce7c');
INSERT INTO "events" VALUES('healthy',2,'2026-01-01T00:00:02.000000+00:00','cli/vm/1',1,'requested','r-1',NULL,'{"backend":"local","old_login":"app","old_version":"1","overlaps":true,"path":"p","plugin":"postgresql","reason":"r","strategy":"new-user","target":"main"}','d53e73ad69f5b56d13d2c18c52004471c58ea3505f396b70a469412461d5ce7c','f12122d78bf3ac89ca7865eb924cc3adc236b4ebb6dbab999f4f696f7c201fa8');
INSERT INTO "events" VALUES('healthy',3,'2026-01-01T00:00:03.000000+00:00','cli/vm/1',1,'started','r-1','stage','{}','f12122d78bf3ac89ca7865eb924cc3adc236b4ebb6dbab999f4f696f7c201fa8','1c13c700aa81a5dcb8f7e5936185ed3690e14ca3eefe0b6ba40048e4c1d4eac8');
INSERT INTO "events" VALUES('healthy',4,'2026-01-01T00:00:04.000000+00:00','cli/vm/1',1,'finished','r-1','stage','{"login":"app_r1","seconds":0.1}','1c13c700aa81a5dcb8f7e5936185ed3690e14ca3eefe0b6ba40048e4c1d4eac8','fe824d911fe39d099647f3b3c4bcd48e9ddb3d63822a1a24e88eab74df5a4f84');
INSERT INTO "events" VALUES('healthy',5,'2026-01-01T00:00:05.000000+00:00','cli/vm/1',1,'started','r-1','create','{}','fe824d911fe39d099647f3b3c4bcd48e9ddb3d63822a1a24e88eab74df5a4f84','455a333339586b61fe3514021a9abc97922a511fbcb1665056a7614f65de1e9f');
INSERT INTO "events" VALUES('healthy',6,'2026-01-01T00:00:06.000000+00:00','cli/vm/1',1,'finished','r-1','create','{"seconds":0.1}','455a333339586b61fe3514021a9abc97922a511fbcb1665056a7614f65de1e9f','b18414875cf317c55e7b2012a37ad42e8fac6ada08227588a4c7e99a75d9f14c');
INSERT INTO "events" VALUES('healthy',7,'2026-01-01T00:00:07.000000+00:00','cli/vm/1',1,'started','r-1','verify','{}','b18414875cf317c55e7b2012a37ad42e8fac6ada08227588a4c7e99a75d9f14c','18670cba54c58fb717c57efe605f78169693535574741b1b065ab6d516c5b9f6');
INSERT INTO "events" VALUES('healthy',8,'2026-01-01T00:00:08.000000+00:00','cli/vm/1',1,'finished','r-1','verify','{"checks":[],"seconds":0.1}','18670cba54c58fb717c57efe605f78169693535574741b1b065ab6d516c5b9f6','3f321616781058403e60e2fc8f446a282ab789947c33304c14d428d2791bd292');
INSERT INTO "events" VALUES('healthy',9,'2026-01-01T00:00:09.000000+00:00','cli/vm/1',1,'started','r-1','publish','{}','3f321616781058403e60e2fc8f446a282ab789947c33304c14d428d2791bd292','f47134a54d183d72aea31ad242dbc5921be3c3bf3538ac4c356609c58b72576f');
INSERT INTO "events" VALUES('healthy',10,'2026-01-01T00:00:10.000000+00:00','cli/vm/1',1,'finished','r-1','publish','{"login":"app_r1","next_due":"2026-02-01T00:00:00+00:00","seconds":0.1,"timing":"0123456789abcdef","version":"2"}','f47134a54d183d72aea31ad242dbc5921be3c3bf3538ac4c356609c58b72576f','63901dc415866e2fb24a6d9c3b501d80a2124fe1ce53ef5b01882bc9660d6308');
INSERT INTO "events" VALUES('healthy',11,'2026-01-01T00:00:11.000000+00:00','cli/vm/1',1,'started','r-1','drain','{}','63901dc415866e2fb24a6d9c3b501d80a2124fe1ce53ef5b01882bc9660d6308','63bfddf349be0752313249f9a120e0d746c149813887345dc4908aab9a0e2a52');
INSERT INTO "events" VALUES('healthy',12,'2026-01-01T00:00:12.000000+00:00','cli/vm/1',1,'finished','r-1','drain','{"counted":true,"open":0}','63bfddf349be0752313249f9a120e0d746c149813887345dc4908aab9a0e2a52','d671858bc7c51aaddf53acbf0e5f3f5726931cfd72cd1805821ac09c85760ecd');
INSERT INTO "events" VALUES('healthy',13,'2026-01-01T00:00:13.000000+00:00','cli/vm/1',1,'started','r-1','revoke','{}','d671858bc7c51aaddf53acbf0e5f3f5726931cfd72cd1805821ac09c85760ecd','e0445ca7a59ac178ee2cfab32a6a7ce9541256625f9ce44fbd6f380ecfda72c3');
INSERT INTO "events" VALUES('healthy',14,'2026-01-01T00:00:14.000000+00:00','cli/vm/1',1,'finished','r-1','revoke','{"login":"app","refused":true}','e0445ca7a59ac178ee2cfab32a6a7ce9541256625f9ce44fbd6f380ecfda72c3','897ca95b38df6b95def6fe20ad06451bb925d8034f0aa3db08570d2a54d0c7b7');
INSERT INTO "events" VALUES('healthy',15,'2026-01-01T00:00:15.000000+00:00','cli/vm/1',1,'ended','r-1',NULL,'{"next_due":"2026-02-01T00:00:00+00:00","outcome":"done","timing":"0123456789abcdef"}','897ca95b38df6b95def6fe20ad06451bb925d8034f0aa3db08570d2a54d0c7b7','9b1007a70c8c5612cd6a2d75abfadb4991746046601b95dd8240f91ff8f4188a');
INSERT INTO "events" VALUES('healthy',16,'2026-01-01T00:00:16.000000+00:00','cli/vm/1',1,'checked',NULL,NULL,'{"accepted":true,"known":true,"login":"app_r1","version":"2"}','9b1007a70c8c5612cd6a2d75abfadb4991746046601b95dd8240f91ff8f4188a','54b4becf176e86dec1498cef233d369172e51297140dbb1d5b1385464bd78bb7');
INSERT INTO "events" VALUES('refused',1,'2026-01-01T00:00:17.000000+00:00','cli/vm/1',1,'adopted',NULL,NULL,'{"backend":"local","login":"web","path":"p","reason":"","target":"main","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','776f19f6d35a4e7b2ced8266ded3241583b4daa62a22241de5216c086a29c692');
INSERT INTO "events" VALUES('refused',2,'2026-01-01T00:00:18.000000+00:00','cli/vm/1',1,'checked',NULL,NULL,'{"accepted":true,"known":true,"login":"web","version":"1"}','776f19f6d35a4e7b2ced8266ded3241583b4daa62a22241de5216c086a29c692','4a13f8ab596169b7d49445227e42f052e4ef2f706a018e9cd957e42329e4c5e0');
INSERT INTO "events" VALUES('refused',3,'2026-01-01T00:00:19.000000+00:00','cli/vm/1',1,'checked',NULL,NULL,'{"accepted":false,"known":true,"login":"web","version":"1"}','4a13f8ab596169b7d49445227e42f052e4ef2f706a018e9cd957e42329e4c5e0','9ca67cb7999a497adf3c03fc418e20a505f9f688b0a8cc6424ec4a18236092cc');
INSERT INTO "events" VALUES('drifted',1,'2026-01-01T00:00:20.000000+00:00','cli/vm/1',1,'adopted',NULL,NULL,'{"backend":"local","login":"job","path":"p","reason":"","target":"main","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','8c0462b052883bc14c77a172f7aea7ab2e11694838473588ce0edd3398650aff');
INSERT INTO "events" VALUES('drifted',2,'2026-01-01T00:00:21.000000+00:00','cli/vm/1',1,'checked',NULL,NULL,'{"accepted":true,"known":false,"login":"job","version":"7"}','8c0462b052883bc14c77a172f7aea7ab2e11694838473588ce0edd3398650aff','198315779136a7da7325c0fa44f6429b4b64fac3e5b9832a314b112d178c312b');
INSERT INTO "events" VALUES('open',1,'2026-01-01T00:00:22.000000+00:00','cli/vm/1',1,'adopted',NULL,NULL,'{"backend":"local","login":"api","path":"p","reason":"","target":"main","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','84940e454371879ca9eb1b2cb75e611dafacc89bdf492de55eaf054f3a1b6348');
INSERT INTO "events" VALUES('open',2,'2026-01-01T00:00:23.000000+00:00','cli/vm/1',1,'requested','r-2',NULL,'{"backend":"local","old_login":"api","old_version":"1","overlaps":true,"path":"p","plugin":"postgresql","reason":"r","strategy":"new-user","target":"main"}','84940e454371879ca9eb1b2cb75e611dafacc89bdf492de55eaf054f3a1b6348','37afa5b40c172a13a4fa970d274bfcca43dd1ec67dc55f5d509e2254c511d465');
INSERT INTO "events" VALUES('open',3,'2026-01-01T00:00:24.000000+00:00','cli/vm/1',1,'started','r-2','stage','{}','37afa5b40c172a13a4fa970d274bfcca43dd1ec67dc55f5d509e2254c511d465','49ab388bd6efec0fac3428e739712a337944d5d6136e46b474eb53aad1621b37');
INSERT INTO "events" VALUES('open',4,'2026-01-01T00:00:25.000000+00:00','cli/vm/1',1,'finished','r-2','stage','{"login":"api_r2","seconds":0.1}','49ab388bd6efec0fac3428e739712a337944d5d6136e46b474eb53aad1621b37','16dc1626a1bb4ddf36196e21061f75f26a8f3aff76894eb8ba70ce92a2dea953');
INSERT INTO "events" VALUES('open',5,'2026-01-01T00:00:26.000000+00:00','cli/vm/1',1,'started','r-2','create','{}','16dc1626a1bb4ddf36196e21061f75f26a8f3aff76894eb8ba70ce92a2dea953','5370c54061a359ac1bf27034c9fa9103f77ea4e452c58440bd34e5f331cea8e4');
INSERT INTO "events" VALUES('open',6,'2026-01-01T00:00:27.000000+00:00','cli/vm/1',1,'finished','r-2','create','{"seconds":0.1}','5370c54061a359ac1bf27034c9fa9103f77ea4e452c58440bd34e5f331cea8e4','e401ca7dac92179fbeac37d83d9d0999dc92215b9b7fee893d670fe8df5dec0e');
INSERT INTO "events" VALUES('open',7,'2026-01-01T00:00:28.000000+00:00','cli/vm/1',1,'started','r-2','verify','{}','e401ca7dac92179fbeac37d83d9d0999dc92215b9b7fee893d670fe8df5dec0e','1f94d6936e24efb38f0a40bf2b0975788f4e92d439253c70f20241befed69dc8');
INSERT INTO "events" VALUES('open',8,'2026-01-01T00:00:29.000000+00:00','cli/vm/1',1,'finished','r-2','verify','{"checks":[],"seconds":0.1}','1f94d6936e24efb38f0a40bf2b0975788f4e92d439253c70f20241befed69dc8','f2a9b0ca170321808e22cf2a8e2ef5b48b0084a08c627aa222f7419406e71855');
INSERT INTO "events" VALUES('open',9,'2026-01-01T00:00:30.000000+00:00','cli/vm/1',1,'started','r-2','publish','{}','f2a9b0ca170321808e22cf2a8e2ef5b48b0084a08c627aa222f7419406e71855','d37e165da22ab2f6e4060575bffaf064b91251ec138c4904d58c0156d9bb1ed4');
INSERT INTO "events" VALUES('open',10,'2026-01-01T00:00:31.000000+00:00','cli/vm/1',1,'finished','r-2','publish','{"login":"api_r2","next_due":"2026-02-01T00:00:00+00:00","seconds":0.1,"timing":"0123456789abcdef","version":"2"}','d37e165da22ab2f6e4060575bffaf064b91251ec138c4904d58c0156d9bb1ed4','ce3eab15eb43b9208775843874f16b8e076dd5108cbe1c41771f403ce284a5e0');
INSERT INTO "events" VALUES('parked',1,'2026-01-01T00:00:32.000000+00:00','cli/vm/1',1,'adopted',NULL,NULL,'{"backend":"local","login":"etl","path":"p","reason":"","target":"main","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','e3c7a039baba49389c1d9ab0ec34ff60fa2c32a8cbf0d77453837824736e842e');
INSERT INTO "events" VALUES('parked',2,'2026-01-01T00:00:33.000000+00:00','cli/vm/1',1,'parked',NULL,NULL,'{"reason":"denied: x","what":"denied: x"}','e3c7a039baba49389c1d9ab0ec34ff60fa2c32a8cbf0d77453837824736e842e','5a5bf87dbbddb1767cc597e173330720ca5484426d9029e4fce18608d68eb74b');
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
INSERT INTO "rotations" VALUES('r-1','healthy','postgresql','new-user','r','cli/vm/1','2026-01-01T00:00:02.000000+00:00','1','app','2','app_r1','2026-01-01T00:00:10.000000+00:00',1,'2026-01-01T00:00:15.000000+00:00','done','9b9240020921e61a57385820b872aa1de95b9ceb3bdb406349ce9ff34af524f1');
INSERT INTO "rotations" VALUES('r-2','open','postgresql','new-user','r','cli/vm/1','2026-01-01T00:00:23.000000+00:00','1','api','2','api_r2','2026-01-01T00:00:31.000000+00:00',NULL,NULL,NULL,'8260410bf13871762e47e6aa6f6e03516e65511579210bbe3bfb55cd6a47e7c2');
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
	seal TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "secrets" VALUES('healthy','2','app_r1','["app"]',NULL,0,'2026-01-01T00:00:10.000000+00:00','2026-02-01T00:00:00.000000+00:00','2026-01-01T00:00:10.000000+00:00','0123456789abcdef','done',NULL,16,'54b4becf176e86dec1498cef233d369172e51297140dbb1d5b1385464bd78bb7',NULL,1,NULL,'dd9fa18c2c44e47a9d9894d05e7f7318bb9d06538fb9aa7ee58b4334ae8d41ad');
INSERT INTO "secrets" VALUES('refused','1','web','["web"]',NULL,0,NULL,NULL,'2026-01-01T00:00:17.000000+00:00',NULL,NULL,NULL,3,'9ca67cb7999a497adf3c03fc418e20a505f9f688b0a8cc6424ec4a18236092cc',NULL,1,NULL,'678772b0b33a18263918c878643d9016c97d5c33464a0aed7153c4a6cb130f6f');
INSERT INTO "secrets" VALUES('drifted','1','job','["job"]',NULL,0,NULL,NULL,'2026-01-01T00:00:20.000000+00:00',NULL,NULL,NULL,2,'198315779136a7da7325c0fa44f6429b4b64fac3e5b9832a314b112d178c312b',NULL,1,NULL,'1a015d0cd774359331435127055bdaa34c3e60631bc881802f91c2c4fdeb365c');
INSERT INTO "secrets" VALUES('open','2','api_r2','["api"]',NULL,0,'2026-01-01T00:00:31.000000+00:00','2026-02-01T00:00:00.000000+00:00','2026-01-01T00:00:31.000000+00:00','0123456789abcdef',NULL,'r-2',10,'ce3eab15eb43b9208775843874f16b8e076dd5108cbe1c41771f403ce284a5e0',NULL,1,NULL,'aceb9537bf0f22f94b77ad6c6b6753fc5322fb4939d5263c586f3f4eb481f31f');
INSERT INTO "secrets" VALUES('parked','1','etl','["etl"]','denied: x',0,NULL,NULL,'2026-01-01T00:00:32.000000+00:00',NULL,NULL,NULL,2,'5a5bf87dbbddb1767cc597e173330720ca5484426d9029e4fce18608d68eb74b',NULL,1,NULL,'1ba335428e789d5f4480ed0af484b74f355884d99dc8c64ef36035d7d61c2b7b');
CREATE INDEX events_of_a_rotation ON events (rotation_id);
CREATE INDEX secrets_due ON secrets (next_due) WHERE parked IS NULL AND open_rotation IS NULL;
CREATE INDEX secrets_open ON secrets (open_rotation) WHERE open_rotation IS NOT NULL;
CREATE INDEX rotations_of_a_secret ON rotations (secret, started_at);
CREATE UNIQUE INDEX one_open_rotation_a_secret ON rotations (secret) WHERE ended_at IS NULL;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'the audit journal is append-only'); END;
COMMIT;
