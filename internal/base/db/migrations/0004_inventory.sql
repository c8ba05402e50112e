-- What there is: apps, their resources, entitlements, accounts and grants.
-- Package inventory.

CREATE TABLE app (
  id           TEXT   NOT NULL PRIMARY KEY,
  name         TEXT   NOT NULL,
  name_key     TEXT   NOT NULL UNIQUE, -- folded by Go
  managed      BOOLEAN NOT NULL,
  source       TEXT   NOT NULL, -- manual, connector, or the id of the directory's app that tells of it
  external_id  TEXT   NOT NULL, -- the resource that the directory has it as, or ''
  description  TEXT   NOT NULL,
  matching     TEXT   NOT NULL, -- narrow, broad
  directory    BOOLEAN NOT NULL, -- its accounts make people
  sync_id      TEXT   NOT NULL, -- the last sync that was applied, or ''
  synced_at    BIGINT,
  full_at      BIGINT, -- when the newest full sync that was applied began to read
  ingest_id    TEXT   NOT NULL, -- the sync that is being ingested, or ''
  ingest_runs  BIGINT NOT NULL, -- how often that was begun since it last ended in good order
  fence        BIGINT NOT NULL, -- grows with each run of an ingest
  created_at   BIGINT NOT NULL,
  removed_at   BIGINT
) STRICT;

CREATE TABLE app_owner (
  app_id   TEXT   NOT NULL REFERENCES app (id) ON DELETE CASCADE,
  kind     TEXT   NOT NULL, -- person, entitlement (whoever holds it)
  owner_id TEXT   NOT NULL,
  added_at BIGINT NOT NULL,
  PRIMARY KEY (app_id, kind, owner_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE resource_type (
  id          TEXT   NOT NULL PRIMARY KEY,
  app_id      TEXT   NOT NULL REFERENCES app (id) ON DELETE CASCADE,
  external_id TEXT   NOT NULL,
  name        TEXT   NOT NULL,
  description TEXT   NOT NULL,
  traits      TEXT   NOT NULL, -- JSON: ["user", "role", "group", "app", "secret", …]
  first_seen_at BIGINT NOT NULL,
  UNIQUE (app_id, external_id)
) STRICT;

CREATE TABLE resource (
  id          TEXT   NOT NULL PRIMARY KEY,
  app_id      TEXT   NOT NULL,
  type_id     TEXT   NOT NULL REFERENCES resource_type (id) ON DELETE CASCADE,
  external_id TEXT   NOT NULL,
  parent_id   TEXT   NOT NULL, -- a resource, or ''
  name        TEXT   NOT NULL,
  search      TEXT   NOT NULL, -- what it is found by, folded by Go
  description TEXT   NOT NULL,
  profile     TEXT   NOT NULL, -- JSON
  source      BYTES  NOT NULL, -- as the connector sent it (c1.connector.v2.Resource), for tasks about it
  hash        BYTES  NOT NULL, -- of what the connector sent, to see that it changed
  first_sync_id TEXT NOT NULL,
  first_seen_at BIGINT NOT NULL,
  changed_at  BIGINT NOT NULL,
  UNIQUE (app_id, type_id, external_id)
) STRICT;

CREATE INDEX resource_name ON resource (app_id, type_id, name, id);
CREATE INDEX resource_sorted ON resource (app_id, type_id, substr(search, 1, 200), id); -- as lists are; the text may be too long for an index

CREATE TABLE account ( -- what a resource with the user trait is besides
  id             TEXT   NOT NULL PRIMARY KEY, -- of the resource
  app_id         TEXT   NOT NULL,
  login          TEXT   NOT NULL,
  email          TEXT   NOT NULL,
  employee_id    TEXT   NOT NULL,
  keys           TEXT   NOT NULL, -- JSON: all folded e-mails, logins and employee ids
  kind           TEXT   NOT NULL, -- human, service, system, unknown
  kind_by_hand   BOOLEAN NOT NULL,
  status         TEXT   NOT NULL, -- enabled, disabled, deleted, unknown
  status_detail  TEXT   NOT NULL,
  last_login_at  BIGINT,
  created_at     BIGINT, -- in the source
  person_id      TEXT   NOT NULL, -- or ''
  matched_by     TEXT   NOT NULL, -- email, username, employee_id, hand, or ''; hand with no person stays unmatched
  matched_at     BIGINT
) STRICT;

CREATE INDEX account_person ON account (person_id, app_id);
CREATE INDEX account_app ON account (app_id, id);
CREATE INDEX account_state ON account (app_id, kind, status);
CREATE INDEX account_login ON account (app_id, COALESCE(last_login_at, 0), id);
CREATE INDEX person_gone ON person (id) WHERE status <> 'enabled'; -- whose accounts are orphaned

CREATE TABLE entitlement (
  id           TEXT   NOT NULL PRIMARY KEY,
  app_id       TEXT   NOT NULL,
  resource_id  TEXT   NOT NULL,
  external_id  TEXT   NOT NULL,
  slug         TEXT   NOT NULL,
  name         TEXT   NOT NULL,
  search       TEXT   NOT NULL, -- folded by Go
  description  TEXT   NOT NULL,
  purpose      TEXT   NOT NULL, -- assignment, permission, ownership, unspecified
  grantable_to TEXT   NOT NULL, -- JSON: external ids of resource types
  immutable    BOOLEAN NOT NULL,
  source       BYTES  NOT NULL, -- as the connector sent it (c1.connector.v2.Entitlement)
  hash         BYTES  NOT NULL,
  risk         TEXT   NOT NULL, -- '', low, medium, high, critical
  requestable  BOOLEAN NOT NULL,
  longest_s    BIGINT NOT NULL, -- longest duration of a grant in seconds; 0 is without end
  owner_id     TEXT   NOT NULL, -- a person, or ''
  grant_count  BIGINT NOT NULL, -- direct grants, kept by whoever changes them
  first_sync_id TEXT  NOT NULL,
  first_seen_at BIGINT NOT NULL,
  changed_at   BIGINT NOT NULL,
  UNIQUE (app_id, external_id)
) STRICT;

CREATE INDEX entitlement_resource ON entitlement (resource_id);
CREATE INDEX entitlement_name ON entitlement (app_id, name, id);
CREATE INDEX entitlement_sorted ON entitlement (app_id, purpose, substr(search, 1, 200), id);
CREATE INDEX entitlement_risk ON entitlement (app_id, risk) WHERE risk <> '';
CREATE INDEX entitlement_requestable ON entitlement (app_id) WHERE requestable = TRUE;

CREATE TABLE access_grant ( -- what is granted now, directly
  app_id         TEXT   NOT NULL,
  entitlement_id TEXT   NOT NULL,
  principal_id   TEXT   NOT NULL, -- any resource
  external_id    TEXT   NOT NULL, -- '' where it is entitlement:type:principal
  flags          BIGINT NOT NULL, -- 1 immutable, 2 expandable
  since          BIGINT NOT NULL, -- when it was first seen or provisioned
  sync_id        TEXT   NOT NULL, -- by which sync it was first seen; '' before one has seen it
  provisioned_at BIGINT, -- when a connector last said that it made it
  PRIMARY KEY (app_id, entitlement_id, principal_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX access_grant_principal ON access_grant (principal_id, entitlement_id);
CREATE INDEX access_grant_provisioned ON access_grant (app_id, provisioned_at) WHERE provisioned_at IS NOT NULL;

CREATE TABLE past_grant ( -- what was granted; it outlives what it names
  id             TEXT   NOT NULL PRIMARY KEY,
  app_id         TEXT   NOT NULL,
  entitlement_id TEXT   NOT NULL,
  principal_id   TEXT   NOT NULL,
  entitlement    TEXT   NOT NULL, -- external id
  entitlement_name TEXT NOT NULL,
  principal      TEXT   NOT NULL, -- external ids: type:resource
  principal_name TEXT   NOT NULL,
  since          BIGINT NOT NULL, -- as until where it was revoked before a sync had seen it
  sync_id        TEXT   NOT NULL,
  until          BIGINT NOT NULL,
  until_sync_id  TEXT   NOT NULL -- by which sync it was seen to be gone; '' where it was revoked here
) STRICT;

CREATE INDEX past_grant_entitlement ON past_grant (entitlement_id, until, id);
CREATE INDEX past_grant_principal ON past_grant (principal_id, until, id);
CREATE INDEX past_grant_app ON past_grant (app_id, until, id);

CREATE TABLE expansion ( -- whoever holds source holds target as well, through principal, which has target
  app_id       TEXT   NOT NULL,
  source_id    TEXT   NOT NULL, -- an entitlement of principal
  target_id    TEXT   NOT NULL, -- an entitlement
  principal_id TEXT   NOT NULL, -- the resource, such as a group, that target is granted to
  type_id      TEXT   NOT NULL, -- the only resource type whose resources get it so, or ''; each type has its row
  shallow      BOOLEAN NOT NULL, -- only direct holders of source
  PRIMARY KEY (app_id, target_id, principal_id, source_id, type_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX expansion_source ON expansion (source_id);
CREATE INDEX expansion_target ON expansion (target_id);

CREATE TABLE grant_reason ( -- why a grant is there; one found in the target alone has no row
  entitlement_id TEXT   NOT NULL,
  principal_id   TEXT   NOT NULL,
  kind           TEXT   NOT NULL, -- operator; later request, standing, review
  ref            TEXT   NOT NULL, -- what it comes from
  since          BIGINT NOT NULL,
  expires_at     BIGINT,
  PRIMARY KEY (entitlement_id, principal_id, kind, ref)
) STRICT, WITHOUT ROWID;
