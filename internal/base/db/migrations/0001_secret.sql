-- Everything that must not be read by whoever holds the database: each value is
-- sealed with a key that isn't in it. Package seal.
CREATE TABLE secret (
  name       TEXT   NOT NULL PRIMARY KEY, -- for whom and what, such as connector/ID/password
  sealed     BYTES  NOT NULL,
  updated_at BIGINT NOT NULL
) STRICT, WITHOUT ROWID;
