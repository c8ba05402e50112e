-- Who is signed in, by what, and with which roles. Package identity.

CREATE TABLE person_role ( -- beside user, which everybody is who can sign in
  person_id TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
  role      TEXT   NOT NULL, -- super_admin, connector_admin, application_admin, campaign_admin, auditor
  source    TEXT   NOT NULL, -- hand, oidc (as their groups said at the last sign-in)
  added_at  BIGINT NOT NULL,
  PRIMARY KEY (person_id, role, source)
) STRICT, WITHOUT ROWID;

CREATE INDEX person_role_role ON person_role (role, person_id);

CREATE TABLE password (
  person_id  TEXT   NOT NULL PRIMARY KEY REFERENCES person (id) ON DELETE CASCADE,
  hash       TEXT   NOT NULL, -- PHC string of argon2id
  changed_at BIGINT NOT NULL
) STRICT;

CREATE TABLE sign_in ( -- at a provider, and whose it is
  issuer    TEXT   NOT NULL,
  subject   TEXT   NOT NULL,
  person_id TEXT   NOT NULL, -- a person; '' is nobody yet: an administrator binds
  email     TEXT   NOT NULL, -- as the provider said last
  verified  BOOLEAN NOT NULL,
  name      TEXT   NOT NULL,
  reason    TEXT   NOT NULL, -- why it is nobody's, in words
  bound_by  TEXT   NOT NULL, -- email, or who bound it
  bound_at  BIGINT,
  first_at  BIGINT NOT NULL,
  last_at   BIGINT NOT NULL,
  PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_person ON sign_in (person_id, last_at);

CREATE TABLE sign_in_provider (
  id         TEXT   NOT NULL PRIMARY KEY, -- oidc
  settings   TEXT   NOT NULL, -- JSON; the client secret is in the table secret
  updated_at BIGINT NOT NULL
) STRICT;

CREATE TABLE sign_in_state ( -- of sign-ins that came back from the provider: none does twice
  hash       BYTES  NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL
) STRICT;

CREATE TABLE sign_in_throttle ( -- attempts that failed lately
  key      TEXT   NOT NULL PRIMARY KEY, -- account/… (a hash), address/…
  failures BIGINT NOT NULL,
  since    BIGINT, -- from then on they are forgotten, one by one
  until    BIGINT  -- none is taken before
) STRICT;

CREATE TABLE setup_link ( -- for the first administrator
  hash       BYTES  NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL
) STRICT;

CREATE TABLE session (
  id         TEXT   NOT NULL PRIMARY KEY,
  hash       BYTES  NOT NULL UNIQUE, -- SHA-256 of its token
  person_id  TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
  method     TEXT   NOT NULL, -- password, oidc
  address    TEXT   NOT NULL,
  user_agent TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  seen_at    BIGINT NOT NULL, -- to the minute
  expires_at BIGINT NOT NULL
) STRICT;

CREATE INDEX session_person ON session (person_id, id);
CREATE INDEX session_expiry ON session (expires_at);
