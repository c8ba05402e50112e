-- Changes of access, on their way through connectors. Package provision.

CREATE TABLE change (
  id             TEXT   NOT NULL PRIMARY KEY,
  app_id         TEXT   NOT NULL,
  connector_id   TEXT   NOT NULL,
  kind           TEXT   NOT NULL, -- grant, revoke
  entitlement_id TEXT   NOT NULL,
  principal_id   TEXT   NOT NULL,
  reason_kind    TEXT   NOT NULL, -- operator; later request, review, …
  reason_ref     TEXT   NOT NULL,
  state          TEXT   NOT NULL, -- running, done (the connector says so), verified (a sync has seen it), failed
  task_id        TEXT   NOT NULL,
  sync_id        TEXT   NOT NULL, -- that is to see it
  attempts       BIGINT NOT NULL,
  error          TEXT   NOT NULL, -- in words
  by_kind        TEXT   NOT NULL,
  by_id          TEXT   NOT NULL,
  by_name        TEXT   NOT NULL,
  created_at     BIGINT NOT NULL,
  next_at        BIGINT, -- when to look again; NULL when over
  done_at        BIGINT,
  verified_at    BIGINT
) STRICT;

CREATE INDEX change_next ON change (next_at);
CREATE INDEX change_asked ON change (created_at, id);
CREATE INDEX change_grant ON change (entitlement_id, principal_id, id);
