-- Connectors, their tasks and syncs, and the files and log lines they send.
-- Package integration.

CREATE TABLE connector (
  id            TEXT   NOT NULL PRIMARY KEY,
  app_id        TEXT   NOT NULL,
  name          TEXT   NOT NULL,
  name_key      TEXT   NOT NULL UNIQUE, -- folded by Go
  catalog       TEXT   NOT NULL, -- the binary's name without baton-; baton where it isn't known yet
  kind          TEXT   NOT NULL, -- the same, as its Hello tells, or ''
  hosted        BOOLEAN NOT NULL,
  settings      TEXT   NOT NULL, -- JSON: field → text; what is secret is in the table secret
  secrets       TEXT   NOT NULL, -- JSON: names of the secret fields that are set
  settings_at   BIGINT NOT NULL, -- changes restart a hosted connector
  paused_at     BIGINT,
  paused_why    TEXT   NOT NULL,
  every_s       BIGINT NOT NULL, -- interval of full syncs in seconds; 0 where cron is set
  cron          TEXT   NOT NULL,
  zone          TEXT   NOT NULL,
  next_sync_at  BIGINT,
  anomaly_stop  BOOLEAN NOT NULL,
  debug         BOOLEAN NOT NULL, -- its debug log comes with each sync
  metadata      TEXT   NOT NULL, -- JSON of c1.connector.v2.ConnectorMetadata from its last Hello, or ''
  version       TEXT   NOT NULL,
  package       TEXT   NOT NULL,
  host          TEXT   NOT NULL, -- that called last
  hello_at      BIGINT,
  seen_at       BIGINT,
  problem       TEXT   NOT NULL, -- kind of what is wrong, or ''
  problem_words TEXT   NOT NULL, -- cause and next step
  problem_at    BIGINT,
  created_at    BIGINT NOT NULL,
  removed_at    BIGINT
) STRICT;

CREATE INDEX connector_due ON connector (next_sync_at);

CREATE TABLE connector_owner (
  connector_id TEXT   NOT NULL REFERENCES connector (id) ON DELETE CASCADE,
  person_id    TEXT   NOT NULL,
  PRIMARY KEY (connector_id, person_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE connector_task (
  id            TEXT   NOT NULL PRIMARY KEY,
  connector_id  TEXT   NOT NULL,
  kind          TEXT   NOT NULL,
  request       BYTES  NOT NULL, -- c1.connectorapi.baton.v1.Task
  lane          TEXT   NOT NULL, -- of those with the same text one is out at a time; '' is free
  rank          BIGINT NOT NULL, -- lower goes first
  state         TEXT   NOT NULL, -- queued, leased, done, failed, cancelled
  attempts      BIGINT NOT NULL,
  not_before    BIGINT NOT NULL,
  give_up_at    BIGINT NOT NULL, -- a task that isn't finished by then has failed
  host          TEXT   NOT NULL, -- that has it
  process       TEXT   NOT NULL, -- the only host that may have it (state of an action), or ''
  leased_at     BIGINT,
  lease_until   BIGINT,
  cancel        BOOLEAN NOT NULL,
  code          BIGINT NOT NULL, -- google.rpc.Code of the answer
  error         TEXT   NOT NULL,
  response      BYTES,           -- google.protobuf.Any of a done one, google.rpc.Status of a failed one
  follow_kind   TEXT   NOT NULL, -- job to enqueue in the transaction that finishes it, or ''
  follow_row    TEXT   NOT NULL,
  created_at    BIGINT NOT NULL,
  finished_at   BIGINT
) STRICT;

CREATE INDEX connector_task_open ON connector_task (connector_id, state, rank, not_before, id);
CREATE INDEX connector_task_lane ON connector_task (connector_id, lane, state);
CREATE INDEX connector_task_lease ON connector_task (state, lease_until);
CREATE INDEX connector_task_finished ON connector_task (finished_at);

CREATE TABLE sync (
  id           TEXT   NOT NULL PRIMARY KEY,
  app_id       TEXT   NOT NULL,
  connector_id TEXT   NOT NULL, -- '' where the file was brought by hand
  task_id      TEXT   NOT NULL,
  kind         TEXT   NOT NULL, -- full, partial, resources_only
  cause        TEXT   NOT NULL, -- first, schedule, demand, settings, verify, event, file
  state        TEXT   NOT NULL, -- waiting, reading, uploading, comparing, held, applying, applied, failed, cancelled, discarded
  progress     TEXT   NOT NULL, -- JSON
  file_id      TEXT   NOT NULL,
  file_hash    TEXT   NOT NULL, -- hex SHA-256
  file_size    BIGINT NOT NULL,
  source_sync_id TEXT NOT NULL, -- of the run in the file
  host         TEXT   NOT NULL,
  version      TEXT   NOT NULL,
  began_at     BIGINT, -- as the file says
  ended_at     BIGINT,
  counts       TEXT   NOT NULL, -- JSON: what the file holds, by type
  totals       TEXT   NOT NULL, -- JSON: what the source itself says it holds
  changes      TEXT   NOT NULL, -- JSON: what was added, changed and removed
  changes_hash TEXT   NOT NULL,
  anomaly      TEXT   NOT NULL, -- JSON: why it was held
  confirmed_by TEXT   NOT NULL,
  error        TEXT   NOT NULL, -- in words
  created_at   BIGINT NOT NULL,
  started_at   BIGINT, -- a connector took it
  uploaded_at  BIGINT,
  finished_at  BIGINT
) STRICT;

CREATE INDEX sync_app ON sync (app_id, created_at, id);
CREATE INDEX sync_connector ON sync (connector_id, created_at, id);
CREATE INDEX sync_state ON sync (state);
CREATE INDEX sync_task ON sync (task_id);
CREATE INDEX sync_created ON sync (created_at);

CREATE TABLE file ( -- in chunks, so that one replica reads what another was sent
  id         TEXT   NOT NULL PRIMARY KEY,
  kind       TEXT   NOT NULL, -- c1z, log
  task_id    TEXT   NOT NULL,
  sha256     TEXT   NOT NULL,
  size       BIGINT NOT NULL,
  complete   BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL
) STRICT;

CREATE INDEX file_task ON file (task_id);
CREATE INDEX file_created ON file (created_at);

CREATE TABLE file_chunk (
  file_id TEXT   NOT NULL REFERENCES file (id) ON DELETE CASCADE,
  n       BIGINT NOT NULL,
  data    BYTES  NOT NULL,
  PRIMARY KEY (file_id, n)
) STRICT;

CREATE TABLE connector_log (
  connector_id TEXT   NOT NULL,
  n            BIGINT NOT NULL, -- counts the connector's lines
  at           BIGINT NOT NULL,
  level        TEXT   NOT NULL, -- debug, info, warn, error
  message      TEXT   NOT NULL,
  fields       TEXT   NOT NULL, -- JSON
  PRIMARY KEY (connector_id, n)
) STRICT;

CREATE TABLE event_feed (
  connector_id TEXT   NOT NULL,
  feed         TEXT   NOT NULL,
  cursor       TEXT   NOT NULL,
  next_at      BIGINT NOT NULL,
  PRIMARY KEY (connector_id, feed)
) STRICT, WITHOUT ROWID;

CREATE TABLE hosting ( -- which server runs a hosted connector, until when
  connector_id TEXT   NOT NULL PRIMARY KEY,
  server       TEXT   NOT NULL,
  fence        BIGINT NOT NULL, -- grows with each change of hands
  until        BIGINT NOT NULL
) STRICT;
