"""Forms in which a database password is written down, each with the way to write a value there."""

from __future__ import annotations

import json
import random
import shlex
import string
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable


def _url(value: str) -> str:
    return quote(value, safe="")


def _double(value: str) -> str:
    return json.dumps(value)


def _python(value: str) -> str:
    return repr(value)


def _single(value: str) -> str:
    """In single quotes, as PHP, JavaScript and Ruby have it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _sql(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _xml(value: str) -> str:
    return escape(value, {'"': "&quot;"})


def _base64(value: str) -> str:
    return b64encode(value.encode()).decode()


def _colons(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")


def _property(value: str) -> str:
    return "".join(f"\\{one}" if one in ":=#!\\ " else one for one in value)


def _plain(value: str) -> str:
    return value


def _doubled(value: str) -> str:
    return value.replace('"', '""')


def _libpq(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True, slots=True)
class Form:
    """One form: the file, its text with `@@` for the value, how the value is written, and the login."""

    name: str
    path: str
    text: str
    write: Callable[[str], str]
    login: str | None = "shop"
    # Whether this form can hold only letters, digits and a few marks, as `hunter2` without quotation.
    bare: bool = False

    def render(self, value: str) -> str:
        """Return the file with this value."""
        return self.text.replace("@@", self.write(value))


def _notebook(value: str) -> str:
    line = f"engine = create_engine({('postgresql://shop:' + _url(value) + '@db:5432/shop')!r})"
    return json.dumps(line)[1:-1]


FORMS: Final = (
    Form("dotenv", ".env", "DB_HOST=db\nDB_USER=shop\nDB_PASSWORD='@@'\n", lambda v: v.replace("'", "") if "'" in v else v),
    Form("dotenv bare", ".env.production", "PGUSER=shop\nPGPASSWORD=@@\n", _plain, bare=True),
    Form("dotenv URL", ".env", "DATABASE_URL=postgres://shop:@@@db.internal:5432/shop\n", _url),
    Form("dotenv export", "prod.env", 'export MYSQL_USER=shop\nexport MYSQL_PASSWORD="@@"\n', lambda v: _double(v)[1:-1]),
    Form("compose map", "docker-compose.yml", "services:\n  db:\n    image: postgres\n    environment:\n      POSTGRES_USER: shop\n      POSTGRES_PASSWORD: @@\n", _double),
    Form("compose list", "compose.yaml", "services:\n  db:\n    environment:\n      - MYSQL_USER=shop\n      - MYSQL_PASSWORD=@@\n", _plain, bare=True),
    Form("compose default", "compose.yaml", "services:\n  db:\n    environment:\n      POSTGRES_USER: shop\n      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:-@@}\n", _plain, bare=True),
    Form("compose command", "compose.yaml", "services:\n  cache:\n    command: redis-server --requirepass @@\n", _plain, login=None, bare=True),
    Form("compose health check", "compose.yaml", 'services:\n  db:\n    healthcheck:\n      test: ["CMD", "mysqladmin", "ping", "-u", "shop", @@]\n', lambda v: _double("-p" + v)),
    Form("kubernetes stringData", "secret.yaml", "apiVersion: v1\nkind: Secret\nstringData:\n  username: shop\n  password: @@\n", _double),
    Form("kubernetes data", "secret.yaml", "apiVersion: v1\nkind: Secret\ndata:\n  username: c2hvcA==\n  password: @@\n", _base64),
    Form("kubernetes env", "deploy.yaml", "spec:\n  containers:\n    - name: web\n      env:\n        - name: DB_USER\n          value: shop\n        - name: DB_PASSWORD\n          value: @@\n", _double),
    Form("config map file", "cm.yaml", "kind: ConfigMap\ndata:\n  application.properties: |\n    spring.datasource.username=shop\n    spring.datasource.password=@@\n", _property, bare=True),
    Form("helm values", "values.yaml", "postgresql:\n  auth:\n    username: shop\n    password: @@\n    database: shop\n", _double),
    Form("helm template", "templates/secret.yaml", "{{- if .Values.enabled }}\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  username: shop\n  password: @@\n{{- end }}\n", _double),
    Form("github actions", ".github/workflows/ci.yml", "jobs:\n  test:\n    env:\n      PGUSER: shop\n      PGPASSWORD: @@\n    steps:\n      - run: pytest\n", _double),
    Form("github actions run", ".github/workflows/ci.yml", "jobs:\n  test:\n    steps:\n      - run: |\n          createdb shop\n          psql postgresql://shop:@@@localhost:5432/shop -c 'select 1'\n", _url),
    Form("gitlab variables", ".gitlab-ci.yml", "variables:\n  MYSQL_USER: shop\n  MYSQL_PASSWORD: @@\n", _double),
    Form("gitlab script", ".gitlab-ci.yml", "test:\n  script:\n    - mysql -u shop -p@@ -h db shop\n", _plain, bare=True),
    Form("ansible", "group_vars/all.yml", "mysql_user: shop\nmysql_password: @@\n", _double),
    Form("rails", "config/database.yml", "production:\n  adapter: postgresql\n  username: shop\n  password: @@\n", _double),
    Form("json", "config.json", '{"database": {"user": "shop", "password": @@, "host": "db", "port": 5432}}', _double),
    Form("json URL", "settings.json", '{"databaseUrl": "mysql://shop:@@@db:3306/shop"}', _url),
    Form("appsettings", "appsettings.json", '{"ConnectionStrings": {"Default": "Server=db;Database=shop;User Id=shop;Password=@@;"}}', _plain, bare=True),
    Form("ecs task", "task.json", '{"containerDefinitions": [{"environment": [{"name": "DB_USER", "value": "shop"}, {"name": "DB_PASSWORD", "value": @@}]}]}', _double),
    Form("toml", "config.toml", '[database]\nuser = "shop"\npassword = @@\nhost = "db"\n', _double),
    Form("toml literal", "config.toml", "[database]\nuser = 'shop'\npassword = '@@'\n", lambda v: v.replace("'", "")),
    Form("ini", "app.ini", "[mysql]\nuser = shop\npassword = @@\nhost = db\n", _plain, bare=True),
    Form("alembic", "alembic.ini", "[alembic]\nsqlalchemy.url = postgresql+psycopg://shop:@@@db/shop\n", _url),
    Form("my.cnf", ".my.cnf", '[client]\nuser=shop\npassword="@@"\n', lambda v: v.replace('"', "")),
    Form("pg_service", ".pg_service.conf", "[shop]\nhost=db\nuser=shop\npassword=@@\n", _plain, bare=True),
    Form("spring properties", "application.properties", "spring.datasource.url=jdbc:postgresql://db:5432/shop\nspring.datasource.username=shop\nspring.datasource.password=@@\n", _property),
    Form("spring default", "application.properties", "spring.datasource.username=shop\nspring.datasource.password=${DB_PASSWORD:@@}\n", _plain, bare=True),
    Form("spring yaml", "application.yml", "spring:\n  datasource:\n    url: jdbc:mysql://db:3306/shop\n    username: shop\n    password: @@\n", _double),
    Form("jdbc query", "db.properties", "url=jdbc:postgresql://db:5432/shop?user=shop&password=@@\n", _url),
    Form("jdbc xml", "persistence.xml", '<persistence><properties><property name="javax.persistence.jdbc.user" value="shop"/><property name="javax.persistence.jdbc.password" value="@@"/></properties></persistence>', _xml),
    Form("jdbc query xml", "context.xml", '<Context><Resource name="jdbc/shop" url="jdbc:mysql://db/shop?user=shop&amp;password=@@"/></Context>', _url),
    Form("tomcat", "context.xml", '<Context><Resource name="jdbc/shop" username="shop" password="@@" url="jdbc:postgresql://db/shop"/></Context>', _xml),
    Form("xml element", "settings.xml", "<datasource><user>shop</user><password>@@</password></datasource>", _xml),
    Form("web.config", "web.config", '<configuration><connectionStrings><add name="shop" connectionString="Server=db;Database=shop;User Id=shop;Password=@@;"/></connectionStrings></configuration>', _plain, bare=True),
    Form("pgpass", ".pgpass", "db:5432:shop:shop:@@\n", _colons),
    Form("userlist", "userlist.txt", '"shop" "@@"\n', _doubled),
    Form("netrc", ".netrc", "machine db login shop password @@\n", _plain, bare=True),
    Form("pgbouncer", "pgbouncer.ini", "[databases]\nshop = host=db port=5432 dbname=shop user=shop password=@@\n", _libpq),
    Form("redis.conf", "redis.conf", "maxmemory 1gb\nrequirepass @@\n", _plain, login=None, bare=True),
    Form("valkey acl", "users.acl", "user shop on >@@ ~* +@all\n", _plain, bare=True),
    Form("systemd", "shop.service", '[Service]\nEnvironment="PGUSER=shop" "PGPASSWORD=@@"\n', _plain, bare=True),
    Form("sqlalchemy", "db.py", "engine = create_engine('postgresql+psycopg://shop:@@@db:5432/shop')\n", _url),
    Form("sqlalchemy URL.create", "db.py", "url = URL.create('postgresql+psycopg', 'shop', @@, 'db', 5432, 'shop')\n", _python),
    Form("django", "settings.py", "DATABASES = {\n    'default': {\n        'ENGINE': 'django.db.backends.postgresql',\n        'USER': 'shop',\n        'PASSWORD': @@,\n        'HOST': 'db',\n    }\n}\n", _python),
    Form("psycopg keywords", "db.py", "connection = psycopg.connect(host='db', user='shop', password=@@)\n", _python),
    Form("psycopg DSN", "db.py", "connection = psycopg2.connect(@@)\n", lambda v: repr(f"host=db dbname=shop user=shop password={_libpq(v)}")),
    Form("psycopg f-string", "db.py", "connection = psycopg.connect(f'postgresql://shop:@@@{host}/shop')\n", _url),
    Form("pymysql positional", "db.py", "connection = pymysql.connect('db', 'shop', @@, 'shop')\n", _python),
    Form("mysqlclient", "db.py", "connection = MySQLdb.connect(host='db', user='shop', passwd=@@)\n", _python),
    Form("redis call", "cache.py", "cache = redis.Redis('cache', 6379, 0, @@)\n", _python, login=None),
    Form("redis URL", "cache.py", "cache = redis.from_url('rediss://:@@@cache:6379/0')\n", _url, login=None),
    Form("environ default", "settings.py", "user = 'shop'\npassword = os.environ.get('DB_PASSWORD', @@)\n", _python, login=None),
    Form("getenv or", "settings.py", "DB_USER = 'shop'\nDB_PASSWORD = os.getenv('DB_PASSWORD') or @@\n", _python),
    Form("decouple", "settings.py", "DB_PASSWORD = config('DB_PASSWORD', default=@@)\n", _python, login=None),
    Form("pydantic", "settings.py", "class Settings(BaseSettings):\n    db_user: str = 'shop'\n    db_password: SecretStr = SecretStr(@@)\n", _python),
    Form("argument default", "db.py", "def connect(host='db', user='shop', password=@@):\n    return driver(host, user, password)\n", _python),
    Form("subprocess", "dump.py", "subprocess.run(['mysqldump', '-u', 'shop', @@, 'shop'])\n", lambda v: repr("-p" + v)),
    Form("multi-host URL", "db.py", "URL = 'postgresql://shop:@@@db1:5432,db2:5432/shop?target_session_attrs=primary'\n", _url),
    Form("shell export", "run.sh", "#!/bin/sh\nexport PGUSER=shop\nexport PGPASSWORD=@@\npsql\n", shlex.quote),
    Form("mysql option", "backup.sh", "mysqldump -ushop @@ -hdb shop | gzip > shop.sql.gz\n", lambda v: shlex.quote("-p" + v)),
    Form("mysql long option", "backup.sh", "mysql --user=shop --password=@@ --host=db shop\n", shlex.quote),
    Form("psql URL", "backup.sh", "pg_dump postgresql://shop:@@@db:5432/shop > shop.sql\n", _url),
    Form("command variable", "backup.sh", "PGUSER=shop PGPASSWORD=@@ pg_dump shop\n", shlex.quote),
    Form("docker run", "start.sh", "docker run -d -e POSTGRES_USER=shop -e POSTGRES_PASSWORD=@@ postgres:18\n", shlex.quote),
    Form("redis-cli", "flush.sh", "redis-cli -h cache -a @@ flushall\n", shlex.quote, login=None),
    Form("kubectl", "secret.sh", "kubectl create secret generic db --from-literal=username=shop --from-literal=password=@@\n", shlex.quote),
    Form("dockerfile ENV", "Dockerfile", "FROM postgres:18\nENV POSTGRES_USER=shop\nENV POSTGRES_PASSWORD=@@\n", shlex.quote),
    Form("dockerfile ENV old", "Dockerfile", "FROM mysql\nENV MYSQL_PASSWORD @@\n", _plain, login=None, bare=True),
    Form("dockerfile ARG", "Dockerfile", "FROM python\nARG DB_PASSWORD=@@\n", shlex.quote, login=None),
    Form("terraform", "main.tf", 'resource "aws_db_instance" "shop" {\n  username = "shop"\n  password = @@\n}\n', _double),
    Form("tfvars", "prod.tfvars", 'db_username = "shop"\ndb_password = @@\n', _double),
    Form("terraform default", "variables.tf", 'variable "db_password" {\n  type = string\n  default = @@\n}\n', _double, login=None),
    Form("sql role", "init.sql", "CREATE ROLE shop LOGIN PASSWORD @@;\n", _sql),
    Form("sql alter", "init.sql", "ALTER USER shop WITH ENCRYPTED PASSWORD @@;\n", _sql),
    Form("sql identified", "init.sql", "CREATE USER 'shop'@'%' IDENTIFIED BY @@;\n", _sql),
    Form("sql in python", "init.py", "cursor.execute(@@)\n", lambda v: json.dumps(f"ALTER ROLE shop PASSWORD {_sql(v)}")),
    Form("foreign server", "fdw.sql", "CREATE USER MAPPING FOR app SERVER other OPTIONS (user 'shop', password @@);\n", _sql),
    Form("php define", "wp-config.php", "<?php\ndefine('DB_USER', 'shop');\ndefine('DB_PASSWORD', @@);\n", _single),
    Form("php array", "database.php", "<?php\nreturn ['connections' => ['username' => 'shop', 'password' => @@]];\n", _single),
    Form("php PDO", "db.php", "<?php\n$db = new PDO('mysql:host=db;dbname=shop', 'shop', @@);\n", _single),
    Form("php mysqli", "db.php", "<?php\n$db = mysqli_connect('db', 'shop', @@, 'shop');\n", _single),
    Form("javascript", "db.js", "const pool = new Pool({ user: 'shop', password: @@, host: 'db' });\n", _single),
    Form("javascript default", "db.ts", "const password: string = process.env.DB_PASSWORD || @@;\n", _single, login=None),
    Form("typescript constant", "db.ts", "const dbUser = 'shop';\nconst dbPassword: string = @@;\n", _double),
    Form("javascript URL", "db.mjs", "const client = new Client('postgres://shop:@@@db/shop');\n", _url),
    Form("go DSN", "db.go", 'db, err := sql.Open("mysql", "shop:@@@tcp(db:3306)/shop")\n', _plain, bare=True),
    Form("go struct", "db.go", 'options := redis.Options{Addr: "cache:6379", Username: "shop", Password: @@}\n', _double),
    Form("java", "Db.java", 'class Db { Connection c = DriverManager.getConnection("jdbc:postgresql://db/shop", "shop", @@); }\n', _double),
    Form("java setter", "Db.java", 'source.setUsername("shop");\nsource.setPassword(@@);\n', _double, login=None),
    Form("java field", "Db.java", 'private static final String DB_USER = "shop";\nprivate static final String DB_PASSWORD = @@;\n', _double),
    Form("ruby", "db.rb", "client = Mysql2::Client.new(host: 'db', username: 'shop', password: @@)\n", _single),
    Form("ruby default", "db.rb", "password = ENV.fetch('DB_PASSWORD', @@)\n", _single, login=None),
    Form("c#", "Db.cs", 'var text = "Server=db;Database=shop;User Id=shop;Password=@@;";\n', _plain, bare=True),
    Form("notebook", "explore.ipynb", '{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "source": ["import sqlalchemy\\n", "@@\\n"]}], "nbformat": 4}', _notebook),
    Form("log", "app.log", "2026-01-01 connecting to postgresql://shop:@@@db:5432/shop\n", _url),
    Form("comment", "app.py", "# engine = create_engine('postgresql://shop:@@@db/shop')\nx = 1\n", _url),
    Form("compose command flags", "docker-compose.yml", 'services:\n  app:\n    command: ["./server", "--db-user=shop", "--db-password=@@"]\n', _plain, bare=True),
    Form("rails ERB", "config/database.yml", "production:\n  adapter: postgresql\n  username: shop\n  password: <%= ENV.fetch('SHOP_PASSWORD', @@) %>\n", _single),
    Form("rails ERB URL", "config/database.yml", "production:\n  url: <%= ENV['DATABASE_URL'] || 'postgres://shop:@@@db/shop' %>\n", _url),
    Form("spring redis", "application-prod.yaml", "spring:\n  data:\n    redis:\n      host: cache\n      username: shop\n      password: @@\n", _double),
    Form("javascript module", "config.js", "module.exports = { development: { username: 'shop', password: @@, database: 'shop', dialect: 'postgres' } };\n", _single),
    Form("go pgx DSN", "db.go", 'conn, err := pgx.Connect(ctx, "host=db user=shop password=@@ dbname=shop sslmode=disable")\n', _plain, bare=True),
    Form("go fmt", "db.go", 'dsn := fmt.Sprintf("%s:%s@tcp(%s)/shop", "shop", @@, host)\n', _double, login=None),
    Form("laravel", "config/database.php", "<?php\nreturn ['mysql' => ['username' => env('DB_USERNAME', 'shop'), 'password' => env('DB_PASSWORD', @@)]];\n", _single),
    Form("symfony", "config/packages/doctrine.yaml", "doctrine:\n  dbal:\n    user: shop\n    password: @@\n", _double),
    Form(".NET builder", "Db.cs", 'var b = new NpgsqlConnectionStringBuilder { Host = "db", Username = "shop", Password = @@ };\n', _double),
    Form("ansible task", "playbook.yml", "- hosts: db\n  tasks:\n    - postgresql_user:\n        name: shop\n        password: @@\n", _double),
    Form("ansible one line", "playbook.yml", "- hosts: db\n  tasks:\n    - mysql_user: name=shop password=@@ state=present\n", _plain, login=None, bare=True),
    Form("ansible inventory", "inventory.ini", "[db]\ndb1 ansible_host=db postgres_user=shop postgres_password=@@\n", _plain, bare=True),
    Form("systemd drop-in", "override.conf", "[Service]\nEnvironment=DATABASE_URL=postgres://shop:@@@db/shop\n", _url),
    Form("kubernetes args", "deploy.yaml", "kind: Deployment\nspec:\n  containers:\n    - name: exporter\n      args:\n        - --mysqld.username=shop\n        - --mysqld.password=@@\n", _plain, bare=True),
    Form("kubernetes secret dotenv", "secret.yaml", "kind: Secret\nstringData:\n  app.env: |\n    DB_USER=shop\n    DB_PASSWORD=@@\n", _plain, bare=True),
    Form("actions services", ".github/workflows/ci.yml", "jobs:\n  test:\n    services:\n      postgres:\n        image: postgres\n        env:\n          POSTGRES_USER: shop\n          POSTGRES_PASSWORD: @@\n", _double),
    Form("airflow connection env", ".env", "AIRFLOW_CONN_SHOP=postgres://shop:@@@db:5432/shop\n", _url),
    Form("prisma", "schema.prisma", 'datasource db {\n  provider = "postgresql"\n  url = "postgresql://shop:@@@db:5432/shop"\n}\n', _url),
    Form("celery broker", "celeryconfig.py", "broker_url = 'redis://:@@@cache:6379/0'\n", _url, login=None),
    Form("elixir", "config/prod.exs", 'config :shop, Shop.Repo,\n  username: "shop",\n  password: @@,\n  hostname: "db"\n', _double),
    Form("perl DBI", "db.pl", "my $dbh = DBI->connect('dbi:Pg:dbname=shop;host=db', 'shop', @@);\n", _single),
    Form("cloudformation default", "template.yaml", "Parameters:\n  DBPassword:\n    Type: String\n    Default: @@\n", _double, login=None),
    Form("logstash", "pipeline.conf", 'input {\n  jdbc {\n    jdbc_user => "shop"\n    jdbc_password => "@@"\n  }\n}\n', _plain, bare=True),
    Form("mysql exporter DSN", "compose.yaml", "services:\n  exporter:\n    environment:\n      DATA_SOURCE_NAME: shop:@@@(db:3306)/\n", _plain, bare=True),
    Form("gitea", "app.ini", "[database]\nDB_TYPE = postgres\nUSER = shop\nPASSWD = `@@`\n", _plain, bare=True),
)  # fmt: skip

# No form has to read these without quotation.
_MARKS: Final = "-_+.%^~"
_HARD: Final = "@/:?#&%+= -_"


def human(chance: random.Random) -> str:
    """Return a password as operators choose it."""
    word = chance.choice(
        ("Sommer", "hunter", "Berlin", "dragon", "Welcome", "letmein", "shop", "w1nter")
    )
    return f"{word}{chance.randrange(10, 10000)}{chance.choice(('', '!', '-prod', '_x', '.'))}"


def generated(chance: random.Random, *, bare: bool) -> str:
    """Return a password as generators make it, with marks that need quotation where those may be."""
    marks = _MARKS if bare else "!#$%&*+,-./:;<=>?@^_|~"
    middle = "".join(chance.choices(string.ascii_letters + string.digits + marks, k=22))
    return f"{chance.choice(string.ascii_letters)}{middle}{chance.choice(string.ascii_letters)}"


def escaped(chance: random.Random, *, bare: bool) -> str:
    """Return a password that a URL has to escape; with letters between, so that none is a reference."""
    if bare:
        return f"Pq{chance.randrange(1000)}%2Fx-{chance.randrange(100)}"
    marks = chance.choices(_HARD.replace(" ", ""), k=4)
    return "k" + "".join(
        f"{one}{chance.choice(string.ascii_letters)}{chance.randrange(10)}" for one in marks
    )
