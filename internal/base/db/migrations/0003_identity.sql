-- Who there is: people, and the clients that connectors are. Package identity.

CREATE TABLE person (
  id          TEXT   NOT NULL PRIMARY KEY,
  name        TEXT   NOT NULL,
  email       TEXT   NOT NULL, -- as it is written; keys are in person_key
  username    TEXT   NOT NULL,
  employee_id TEXT   NOT NULL,
  department  TEXT   NOT NULL,
  job_title   TEXT   NOT NULL,
  manager_id  TEXT   NOT NULL, -- a person, or ''
  kind        TEXT   NOT NULL, -- human, service, system
  status      TEXT   NOT NULL, -- enabled, disabled, deleted
  source      TEXT   NOT NULL, -- csv, manual, or the id of a directory's app
  external_id TEXT   NOT NULL, -- in the source
  profile     TEXT   NOT NULL, -- JSON
  created_at  BIGINT NOT NULL,
  updated_at  BIGINT NOT NULL
) STRICT;

CREATE INDEX person_name ON person (name, id);
CREATE INDEX person_source ON person (source, external_id);

CREATE TABLE person_key ( -- by what a person is found; folded by Go
  kind      TEXT NOT NULL, -- email, local_part (of an e-mail), username, employee_id, name
  value     TEXT NOT NULL,
  person_id TEXT NOT NULL REFERENCES person (id) ON DELETE CASCADE,
  source    TEXT NOT NULL, -- who says so, as in person
  PRIMARY KEY (kind, value, person_id, source)
) STRICT, WITHOUT ROWID;

CREATE INDEX person_key_person ON person_key (person_id, source);

CREATE TABLE client ( -- of the token endpoint; only the public half of its key is kept
  id           TEXT   NOT NULL PRIMARY KEY, -- slug@host[:port]/ccc
  kind         TEXT   NOT NULL, -- connector, hosted (the same as a child of ours)
  subject_id   TEXT   NOT NULL, -- the connector
  public_key   BYTES  NOT NULL, -- Ed25519
  created_at   BIGINT NOT NULL,
  last_used_at BIGINT,
  revoked_at   BIGINT
) STRICT;

CREATE INDEX client_subject ON client (subject_id);

CREATE TABLE assertion_nonce (
  client_id  TEXT   NOT NULL,
  nonce      TEXT   NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (client_id, nonce)
) STRICT, WITHOUT ROWID;

CREATE INDEX assertion_nonce_expiry ON assertion_nonce (expires_at);
