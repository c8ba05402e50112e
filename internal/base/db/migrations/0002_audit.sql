-- The audit log: an append-only Merkle tree (golang.org/x/mod/sumdb/tlog) of
-- events, each written in the transaction of the change it tells of. Package audit.

CREATE TABLE audit_head ( -- one row; whoever appends holds it until the commit
  one  BIGINT NOT NULL PRIMARY KEY,
  size BIGINT NOT NULL
) STRICT;

INSERT INTO audit_head (one, size) VALUES (1, 0);

CREATE TABLE audit_event (
  seq         BIGINT NOT NULL PRIMARY KEY, -- place in the tree, from 0
  id          TEXT   NOT NULL UNIQUE,
  at          BIGINT NOT NULL,
  actor_kind  TEXT   NOT NULL,
  actor_id    TEXT   NOT NULL,
  actor_name  TEXT   NOT NULL,
  action      TEXT   NOT NULL, -- object.verb, such as connector.added
  object_kind TEXT   NOT NULL,
  object_id   TEXT   NOT NULL,
  object_name TEXT   NOT NULL,
  app_id      TEXT   NOT NULL,
  request_id  TEXT   NOT NULL, -- of the log's lines
  detail      TEXT   NOT NULL  -- JSON
) STRICT;

CREATE INDEX audit_event_object ON audit_event (object_kind, object_id, seq);
CREATE INDEX audit_event_app ON audit_event (app_id, seq);
CREATE INDEX audit_event_actor ON audit_event (actor_id, seq);

CREATE TABLE audit_hash ( -- tlog's stored hashes
  place BIGINT NOT NULL PRIMARY KEY,
  hash  BYTES  NOT NULL
) STRICT;

CREATE TABLE audit_checkpoint (
  size BIGINT NOT NULL PRIMARY KEY,
  note TEXT   NOT NULL -- signed; the time is in it
) STRICT;
