-- A journal that the program of commit 83f7f47 wrote, before events were authenticated, as SQLite
-- dumps it. Its signing key is the Ed25519 key whose 32 bytes are 0 to 31.
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
INSERT INTO "checkpoints" VALUES(1,'2026-01-01T00:00:00.000000+00:00','{"batch":[14,"57c55c141b60f4ae9e74ada4bb9292afb961a570db347b7a3c1e5a0a15a37cc8"],"web":[14,"9f5718a73b7ff8a861088b4707156f209f2408a39067241ef2cc0f79e64c469b"]}','0000000000000000000000000000000000000000000000000000000000000000','585fffe168ef5cc960145547207f6d26c3dcf068347f0ae4acbbe1c49b9117bc','56475aa75463474c','4nmfWN2holkhe2ZayChYA7VwsTrQ1IOR88D/CJxJA8ZJPJ0WLSfLI2asfFyASQ8JmSyjRkDMUd6x5BdyvYbgBg==');
INSERT INTO "checkpoints" VALUES(2,'2026-01-01T00:00:00.000000+00:00','{"open":[1,"b3ec54755bea6798574d55858025e031d563f92512486c228bccabaeb4a550fd"],"parked":[2,"3216b79048d46b936f977d81087e07222a4f2b409efd94130488b2bdd2420530"],"web":[28,"1e806de1e9ec71c9e3d57aa64b31aa86b652193bd61d5de76ea65e75367c88b0"]}','585fffe168ef5cc960145547207f6d26c3dcf068347f0ae4acbbe1c49b9117bc','f33fffc8ea70e85d784a29242f9826736d6408563c1d27455fb237348d44398b','56475aa75463474c','/OTFsndMBwci80Chy1H7hQNUvUYicb8QzZ+D5T9nTKm0gUYdenZ6fsDPpjKjcpOqh1GrlHtIBk7jwmqHFVf/DA==');
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
INSERT INTO "events" VALUES('web',1,'2026-01-01T00:00:00.000000+00:00','old',1,'requested','web-1',NULL,'{"old_version":"1","plugin":"p","reason":"räson","strategy":"s"}','0000000000000000000000000000000000000000000000000000000000000000','a03537ee37b31e2c2c6db40d588443d4542ebaeec616a5cbee6afe630448027b');
INSERT INTO "events" VALUES('web',2,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','stage','{}','a03537ee37b31e2c2c6db40d588443d4542ebaeec616a5cbee6afe630448027b','8efd04a9d2f565b017531353bcd6567939f3b0b51f0dc73d8e8a175826cdc073');
INSERT INTO "events" VALUES('web',3,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','stage','{"login":"web-1"}','8efd04a9d2f565b017531353bcd6567939f3b0b51f0dc73d8e8a175826cdc073','5f7e6cc319c030f2b916ea0868fcfbe55f116234c2fc91066e901f9ce526c946');
INSERT INTO "events" VALUES('web',4,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','create','{}','5f7e6cc319c030f2b916ea0868fcfbe55f116234c2fc91066e901f9ce526c946','ba5277d5ae38140a12a54b1c09c4079653e40d953e17a0a706a70d72da831f5e');
INSERT INTO "events" VALUES('web',5,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','create','{}','ba5277d5ae38140a12a54b1c09c4079653e40d953e17a0a706a70d72da831f5e','85962f7b94e39cff547a25a2f2262523f93b800e72f3ea6f26ad4dbab7c6d998');
INSERT INTO "events" VALUES('web',6,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','verify','{}','85962f7b94e39cff547a25a2f2262523f93b800e72f3ea6f26ad4dbab7c6d998','a9a1473b9ac2bda4f6513693dbdc99b419061e91171edd5a7d0f93a9a07a658d');
INSERT INTO "events" VALUES('web',7,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','verify','{}','a9a1473b9ac2bda4f6513693dbdc99b419061e91171edd5a7d0f93a9a07a658d','6a97d789c442ed6f7941c841d00d1fde89168aa53a61a4be7d7f03b36340e96e');
INSERT INTO "events" VALUES('web',8,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','publish','{}','6a97d789c442ed6f7941c841d00d1fde89168aa53a61a4be7d7f03b36340e96e','12b02e647cce41323fb0c141f0cdd00e6141931aa69c05ae888d2bc72940445d');
INSERT INTO "events" VALUES('web',9,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','publish','{"login":"web-1","next_due":"2026-02-01T00:00:00+00:00","version":"1"}','12b02e647cce41323fb0c141f0cdd00e6141931aa69c05ae888d2bc72940445d','f1b8badab63300e0ac5a3954e077c93afba1dad62aa90d195825147c6af1f055');
INSERT INTO "events" VALUES('web',10,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','drain','{}','f1b8badab63300e0ac5a3954e077c93afba1dad62aa90d195825147c6af1f055','96e03fe1914db58548ca8e2f91b15666a0999d33e46c9ab52866125bc0039b62');
INSERT INTO "events" VALUES('web',11,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','drain','{}','96e03fe1914db58548ca8e2f91b15666a0999d33e46c9ab52866125bc0039b62','2f9e546b53c62c55920601da38ea2a18bf230dffeb3b631e9a756cfd513b56ef');
INSERT INTO "events" VALUES('web',12,'2026-01-01T00:00:00.000000+00:00','old',1,'started','web-1','revoke','{}','2f9e546b53c62c55920601da38ea2a18bf230dffeb3b631e9a756cfd513b56ef','7ab09dbda3ae5a1b9e9e0b0473bbac0df54d4b4baa5acd38495c901950003cab');
INSERT INTO "events" VALUES('web',13,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','web-1','revoke','{"refused":true}','7ab09dbda3ae5a1b9e9e0b0473bbac0df54d4b4baa5acd38495c901950003cab','1917a20b549a340ede73efbbea837eeec83b38a5ab4608f24f4ff45142720411');
INSERT INTO "events" VALUES('web',14,'2026-01-01T00:00:00.000000+00:00','old',1,'ended','web-1',NULL,'{"outcome":"done"}','1917a20b549a340ede73efbbea837eeec83b38a5ab4608f24f4ff45142720411','9f5718a73b7ff8a861088b4707156f209f2408a39067241ef2cc0f79e64c469b');
INSERT INTO "events" VALUES('batch',1,'2026-01-01T00:00:00.000000+00:00','old',1,'requested','batch-1',NULL,'{"old_version":"1","plugin":"p","reason":"räson","strategy":"s"}','0000000000000000000000000000000000000000000000000000000000000000','84f0c1bc6d44bdb7c7ef6709f5423f277f8e925dc5bb76fd48bcf27495276aa7');
INSERT INTO "events" VALUES('batch',2,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','stage','{}','84f0c1bc6d44bdb7c7ef6709f5423f277f8e925dc5bb76fd48bcf27495276aa7','958888de78b77c4b0d5d76c119d8d7863c866c67a1afff41d033542aa99e2788');
INSERT INTO "events" VALUES('batch',3,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','stage','{"login":"batch-1"}','958888de78b77c4b0d5d76c119d8d7863c866c67a1afff41d033542aa99e2788','76ffedd146fa5a7c64f381014c93a918d7b237654ece3972ea9e35f07000b818');
INSERT INTO "events" VALUES('batch',4,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','create','{}','76ffedd146fa5a7c64f381014c93a918d7b237654ece3972ea9e35f07000b818','ac09122437778820cc68729517dddf8de9149b147a77de4bfa5ea3a7e24dca04');
INSERT INTO "events" VALUES('batch',5,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','create','{}','ac09122437778820cc68729517dddf8de9149b147a77de4bfa5ea3a7e24dca04','96e104a13f65ea046978aeebde0d591da6d17991d43c9980432f9b145bfb39e5');
INSERT INTO "events" VALUES('batch',6,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','verify','{}','96e104a13f65ea046978aeebde0d591da6d17991d43c9980432f9b145bfb39e5','ee631e569ce5d8d57fd3658a6f3d4d497959564f14f69824d2868c1a8ab1fc65');
INSERT INTO "events" VALUES('batch',7,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','verify','{}','ee631e569ce5d8d57fd3658a6f3d4d497959564f14f69824d2868c1a8ab1fc65','dc92a04766cf96e40b94526dfa4df7c13ecb70db49f24d575f973d498ce75575');
INSERT INTO "events" VALUES('batch',8,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','publish','{}','dc92a04766cf96e40b94526dfa4df7c13ecb70db49f24d575f973d498ce75575','043c75693868cbbb82db134ae955d28f5ca4f30c459d76fe973b1b00c6ddb4e6');
INSERT INTO "events" VALUES('batch',9,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','publish','{"login":"batch-1","next_due":"2026-02-01T00:00:00+00:00","version":"1"}','043c75693868cbbb82db134ae955d28f5ca4f30c459d76fe973b1b00c6ddb4e6','549087c667eb6363d1f32ce6f2bcee59fdca62af7772e114c81eb5c07585ca6c');
INSERT INTO "events" VALUES('batch',10,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','drain','{}','549087c667eb6363d1f32ce6f2bcee59fdca62af7772e114c81eb5c07585ca6c','8fdc9dd465a258b3c7b7ad3e96504e6336cce2c1ace6b4820b046f9b4dee5021');
INSERT INTO "events" VALUES('batch',11,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','drain','{}','8fdc9dd465a258b3c7b7ad3e96504e6336cce2c1ace6b4820b046f9b4dee5021','502c8a31a1d2a004e49e3f04b153a6bc31ee3692cb45f8a4258dbaaf5187c5ea');
INSERT INTO "events" VALUES('batch',12,'2026-01-01T00:00:00.000000+00:00','old',1,'started','batch-1','revoke','{}','502c8a31a1d2a004e49e3f04b153a6bc31ee3692cb45f8a4258dbaaf5187c5ea','1f14c0b8ac7e7a1c4578e4a2a00ba8a9572f3582146c966cc4be73be137cfeba');
INSERT INTO "events" VALUES('batch',13,'2026-01-01T00:00:00.000000+00:00','old',1,'finished','batch-1','revoke','{"refused":true}','1f14c0b8ac7e7a1c4578e4a2a00ba8a9572f3582146c966cc4be73be137cfeba','55513e178cf6b15112c23e70f6de7c656f3013b286380962313eb28a83ccc461');
INSERT INTO "events" VALUES('batch',14,'2026-01-01T00:00:00.000000+00:00','old',1,'ended','batch-1',NULL,'{"outcome":"done"}','55513e178cf6b15112c23e70f6de7c656f3013b286380962313eb28a83ccc461','57c55c141b60f4ae9e74ada4bb9292afb961a570db347b7a3c1e5a0a15a37cc8');
INSERT INTO "events" VALUES('web',15,'2026-01-01T00:00:00.000000+00:00','old',2,'requested','web-2',NULL,'{"old_version":"1","plugin":"p","reason":"räson","strategy":"s"}','9f5718a73b7ff8a861088b4707156f209f2408a39067241ef2cc0f79e64c469b','317c4616ecadec84ec2169d568dcc2df041f039812ea27aa847abe7f32483836');
INSERT INTO "events" VALUES('web',16,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','stage','{}','317c4616ecadec84ec2169d568dcc2df041f039812ea27aa847abe7f32483836','550f652f607fa2c955b80b9bacf2e6993947532762f6532891c2cc5dcd87b6ca');
INSERT INTO "events" VALUES('web',17,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','stage','{"login":"web-2"}','550f652f607fa2c955b80b9bacf2e6993947532762f6532891c2cc5dcd87b6ca','dbacca1c27d86f9db47bc2c136cab0f5531a0b6e33eff463b182682b439cbf2b');
INSERT INTO "events" VALUES('web',18,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','create','{}','dbacca1c27d86f9db47bc2c136cab0f5531a0b6e33eff463b182682b439cbf2b','7fb539c5e7e4cb7bb2bf33100c68ade8d7fd3088014cb0fdd249e4f9478a717c');
INSERT INTO "events" VALUES('web',19,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','create','{}','7fb539c5e7e4cb7bb2bf33100c68ade8d7fd3088014cb0fdd249e4f9478a717c','ad2fda9ea3f5eab3516cfe34721f1ce764c4fb2b229873fee22a8721daf50cdd');
INSERT INTO "events" VALUES('web',20,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','verify','{}','ad2fda9ea3f5eab3516cfe34721f1ce764c4fb2b229873fee22a8721daf50cdd','bda81aed52b7c7f3bf344b27940fcf69e4861d34d84551170889643f6e47424b');
INSERT INTO "events" VALUES('web',21,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','verify','{}','bda81aed52b7c7f3bf344b27940fcf69e4861d34d84551170889643f6e47424b','76d44c00bb073a3e3477127e8878f5b5868754f540ea612400ba220957569f85');
INSERT INTO "events" VALUES('web',22,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','publish','{}','76d44c00bb073a3e3477127e8878f5b5868754f540ea612400ba220957569f85','b02cccea333c87f5676a015244da0f80214a245ceda2c230da320d3d6eaf7fba');
INSERT INTO "events" VALUES('web',23,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','publish','{"login":"web-2","next_due":"2026-02-01T00:00:00+00:00","version":"2"}','b02cccea333c87f5676a015244da0f80214a245ceda2c230da320d3d6eaf7fba','830eaba111064833c73f2ee4f35b6594bb8179b1aff980bc044ecceb1ddee641');
INSERT INTO "events" VALUES('web',24,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','drain','{}','830eaba111064833c73f2ee4f35b6594bb8179b1aff980bc044ecceb1ddee641','19870e6e9e1a5b787abca9e53da3306e12d3972431d1e8d6935346dc7551d6ec');
INSERT INTO "events" VALUES('web',25,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','drain','{}','19870e6e9e1a5b787abca9e53da3306e12d3972431d1e8d6935346dc7551d6ec','20e5d1bd439dea0c8c9d9e46e28506708707e7045611678792204244b372e94b');
INSERT INTO "events" VALUES('web',26,'2026-01-01T00:00:00.000000+00:00','old',2,'started','web-2','revoke','{}','20e5d1bd439dea0c8c9d9e46e28506708707e7045611678792204244b372e94b','4b77269df560860d929fecf31c32e0a94eee2d56b9ac59185b0b7f252bedf47b');
INSERT INTO "events" VALUES('web',27,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','web-2','revoke','{"refused":true}','4b77269df560860d929fecf31c32e0a94eee2d56b9ac59185b0b7f252bedf47b','cfd1a68596e0c5a51badc028ec005644f08d00f13c9f0de50fe0bf98d027e3ca');
INSERT INTO "events" VALUES('web',28,'2026-01-01T00:00:00.000000+00:00','old',2,'ended','web-2',NULL,'{"outcome":"done"}','cfd1a68596e0c5a51badc028ec005644f08d00f13c9f0de50fe0bf98d027e3ca','1e806de1e9ec71c9e3d57aa64b31aa86b652193bd61d5de76ea65e75367c88b0');
INSERT INTO "events" VALUES('parked',1,'2026-01-01T00:00:00.000000+00:00','old',1,'adopted',NULL,NULL,'{"login":"app","version":"1"}','0000000000000000000000000000000000000000000000000000000000000000','cdf6d22660a4ef549762f1b7d5bf256c6a71f467a4094d6973e33c4100f7b84a');
INSERT INTO "events" VALUES('parked',2,'2026-01-01T00:00:00.000000+00:00','old',1,'parked',NULL,NULL,'{"reason":"an operator said so"}','cdf6d22660a4ef549762f1b7d5bf256c6a71f467a4094d6973e33c4100f7b84a','3216b79048d46b936f977d81087e07222a4f2b409efd94130488b2bdd2420530');
INSERT INTO "events" VALUES('open',1,'2026-01-01T00:00:00.000000+00:00','old',1,'requested','open-1',NULL,'{"old_version":"1","plugin":"p","reason":"r","strategy":"s"}','0000000000000000000000000000000000000000000000000000000000000000','b3ec54755bea6798574d55858025e031d563f92512486c228bccabaeb4a550fd');
INSERT INTO "events" VALUES('batch',15,'2026-01-01T00:00:00.000000+00:00','old',2,'requested','batch-2',NULL,'{"old_version":"1","plugin":"p","reason":"räson","strategy":"s"}','57c55c141b60f4ae9e74ada4bb9292afb961a570db347b7a3c1e5a0a15a37cc8','7a92c3d2c38fb304670dea0f475bd787b52e1b6e1bd3f1709ab276983b1e8056');
INSERT INTO "events" VALUES('batch',16,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','stage','{}','7a92c3d2c38fb304670dea0f475bd787b52e1b6e1bd3f1709ab276983b1e8056','60315b5972e61e2d64972ff65905cb38e4b566331be392a68fa9f1bdad90e8a5');
INSERT INTO "events" VALUES('batch',17,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','stage','{"login":"batch-2"}','60315b5972e61e2d64972ff65905cb38e4b566331be392a68fa9f1bdad90e8a5','0ba838aca76e3257c71f3aeaf8cc83d37faa234ce16b21c8273e79feedbbde95');
INSERT INTO "events" VALUES('batch',18,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','create','{}','0ba838aca76e3257c71f3aeaf8cc83d37faa234ce16b21c8273e79feedbbde95','8b49a3d99a03b618b3565279a531e6cdf018a852bc0e5dbdb1984fdd474cf42d');
INSERT INTO "events" VALUES('batch',19,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','create','{}','8b49a3d99a03b618b3565279a531e6cdf018a852bc0e5dbdb1984fdd474cf42d','5074b9285bac52cdf33efa284139f1817b7ba5ca95751741e50391711e4c010c');
INSERT INTO "events" VALUES('batch',20,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','verify','{}','5074b9285bac52cdf33efa284139f1817b7ba5ca95751741e50391711e4c010c','1983bd93b4a7762c1fb5d737d5c32ba3a2fbb67fae794fde5f1c4f950a18897f');
INSERT INTO "events" VALUES('batch',21,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','verify','{}','1983bd93b4a7762c1fb5d737d5c32ba3a2fbb67fae794fde5f1c4f950a18897f','e0c5633cacfec033ced2ce8716d28d70ac84d972037fcef006e45b2d36db8364');
INSERT INTO "events" VALUES('batch',22,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','publish','{}','e0c5633cacfec033ced2ce8716d28d70ac84d972037fcef006e45b2d36db8364','90a70344d0cf42631eb4f89f8a5ea556a0616da6c7bf50ca5b2189964b65db06');
INSERT INTO "events" VALUES('batch',23,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','publish','{"login":"batch-2","next_due":"2026-02-01T00:00:00+00:00","version":"2"}','90a70344d0cf42631eb4f89f8a5ea556a0616da6c7bf50ca5b2189964b65db06','95135cfffd91da5bc36341d9b09a8b2cdf7d643e7c376d4c0e0c0454938f486b');
INSERT INTO "events" VALUES('batch',24,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','drain','{}','95135cfffd91da5bc36341d9b09a8b2cdf7d643e7c376d4c0e0c0454938f486b','bd4965a43aa9958ebca15d7c959923175275043a1fb9b1d1e5b3f578a034c5a7');
INSERT INTO "events" VALUES('batch',25,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','drain','{}','bd4965a43aa9958ebca15d7c959923175275043a1fb9b1d1e5b3f578a034c5a7','c7cd3c3e02e134c542256020a1fd3996ad0e3a410b24b1a5b8f7674e7994aa2c');
INSERT INTO "events" VALUES('batch',26,'2026-01-01T00:00:00.000000+00:00','old',2,'started','batch-2','revoke','{}','c7cd3c3e02e134c542256020a1fd3996ad0e3a410b24b1a5b8f7674e7994aa2c','4742e147fb7369413b0ad545bdc4597d15547c85e590404953daf0e86ec702ce');
INSERT INTO "events" VALUES('batch',27,'2026-01-01T00:00:00.000000+00:00','old',2,'finished','batch-2','revoke','{"refused":true}','4742e147fb7369413b0ad545bdc4597d15547c85e590404953daf0e86ec702ce','2fda8d92b344a460fda2698a5985a4935c1b8710cf1782ff42f3c8b1c85d4ea2');
INSERT INTO "events" VALUES('batch',28,'2026-01-01T00:00:00.000000+00:00','old',2,'ended','batch-2',NULL,'{"outcome":"done"}','2fda8d92b344a460fda2698a5985a4935c1b8710cf1782ff42f3c8b1c85d4ea2','4ddfec6f210ec3c7f1ed6523c1e9dc166faa0c275cae7d6dc3d4acf372681025');
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
INSERT INTO "rotations" VALUES('web-1','web','p','s','räson','old','2026-01-01T00:00:00.000000+00:00','1',NULL,'1','web-1','2026-01-01T00:00:00.000000+00:00',1,'2026-01-01T00:00:00.000000+00:00','done','074706f5d8786e818367eb8844ff179cf23b9e6e5b89bff8955bae2d56acab37');
INSERT INTO "rotations" VALUES('batch-1','batch','p','s','räson','old','2026-01-01T00:00:00.000000+00:00','1',NULL,'1','batch-1','2026-01-01T00:00:00.000000+00:00',1,'2026-01-01T00:00:00.000000+00:00','done','8a16ef39afe2c854a0f79894b516cdddf279be41023901ea4ce82cc128d9feeb');
INSERT INTO "rotations" VALUES('web-2','web','p','s','räson','old','2026-01-01T00:00:00.000000+00:00','1',NULL,'2','web-2','2026-01-01T00:00:00.000000+00:00',1,'2026-01-01T00:00:00.000000+00:00','done','8eedeec993e54db7fb02f18a4bc68fbe9875a06f88eb4b296b3b7c8e879fdedf');
INSERT INTO "rotations" VALUES('open-1','open','p','s','r','old','2026-01-01T00:00:00.000000+00:00','1',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'5861d3efc2c35daf27333de4338c86367822f2e3897b23087b3ad38e7200fe41');
INSERT INTO "rotations" VALUES('batch-2','batch','p','s','räson','old','2026-01-01T00:00:00.000000+00:00','1',NULL,'2','batch-2','2026-01-01T00:00:00.000000+00:00',1,'2026-01-01T00:00:00.000000+00:00','done','e2a6e329cf54434db914f0219904a0367a691fa295705875d6e720724caa3e11');
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
INSERT INTO "secrets" VALUES('web','2','web-2','[]',NULL,0,'2026-01-01T00:00:00.000000+00:00','2026-02-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00',NULL,'done',NULL,28,'1e806de1e9ec71c9e3d57aa64b31aa86b652193bd61d5de76ea65e75367c88b0',NULL,2,NULL,'5f97e664a9620e9b67a4ed208aca7c4c72bf0914322f549fb64d5c42f7926f2a');
INSERT INTO "secrets" VALUES('batch','2','batch-2','[]',NULL,0,'2026-01-01T00:00:00.000000+00:00','2026-02-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00',NULL,'done',NULL,28,'4ddfec6f210ec3c7f1ed6523c1e9dc166faa0c275cae7d6dc3d4acf372681025',NULL,2,NULL,'6ee3cf0d3d94d1c8d7fb9d4fef26fbd13d18160a68acd47eee588bc8779229b7');
INSERT INTO "secrets" VALUES('parked','1','app','["app"]','an operator said so',0,NULL,NULL,'2026-01-01T00:00:00.000000+00:00',NULL,NULL,NULL,2,'3216b79048d46b936f977d81087e07222a4f2b409efd94130488b2bdd2420530',NULL,1,NULL,'8d8c375aad876a4448d3d42133c50805b5a5c428e7a2550e2670c97a7d901fad');
INSERT INTO "secrets" VALUES('open',NULL,NULL,'[]',NULL,0,NULL,NULL,NULL,NULL,NULL,'open-1',1,'b3ec54755bea6798574d55858025e031d563f92512486c228bccabaeb4a550fd','somebody',1,'2026-01-01T00:01:00.000000+00:00','51e65a9f20e8907d515d71fea8a46f918f34535a623b11d4096c2dab6558eaea');
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
