-- Format 1. Times are milliseconds since 1970.
CREATE TABLE workspaces (
  id TEXT PRIMARY KEY,
  name TEXT UNIQUE,
  labels TEXT NOT NULL DEFAULT '{}',
  environment TEXT NOT NULL,
  state TEXT NOT NULL,
  shape TEXT NOT NULL,
  disk_gib INTEGER NOT NULL,
  root_disk_gib INTEGER NOT NULL,
  ttl_seconds INTEGER NOT NULL,
  on_expire TEXT NOT NULL,
  one_shot INTEGER NOT NULL DEFAULT 0,
  machine TEXT,
  generation INTEGER NOT NULL DEFAULT 0,
  root_layer TEXT REFERENCES layers (id),
  workspace_layer TEXT REFERENCES layers (id),
  created_at INTEGER NOT NULL,
  last_activity_at INTEGER NOT NULL,
  stopped_at INTEGER,
  stop_reason TEXT,
  command_count INTEGER NOT NULL DEFAULT 0,
  reset_count INTEGER NOT NULL DEFAULT 0,
  last_reset_at INTEGER
) STRICT;
CREATE TABLE machines (
  id TEXT PRIMARY KEY,
  shape TEXT NOT NULL,
  template TEXT NOT NULL,
  role TEXT NOT NULL,
  state TEXT NOT NULL,
  workspace TEXT,
  pid INTEGER,
  machine_pid INTEGER,
  user_slot INTEGER NOT NULL UNIQUE,
  root_layer TEXT REFERENCES layers (id),
  workspace_layer TEXT REFERENCES layers (id),
  created_at INTEGER NOT NULL,
  expires_at INTEGER
) STRICT;
CREATE INDEX machines_by_template ON machines (template, state);
CREATE TABLE layers (
  id TEXT PRIMARY KEY,
  parent TEXT REFERENCES layers (id),
  format TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX layers_by_parent ON layers (parent);
CREATE TABLE commands (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  argv TEXT NOT NULL,
  cwd TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  exit_code INTEGER,
  signal INTEGER,
  timed_out INTEGER NOT NULL DEFAULT 0,
  duration_us INTEGER,
  failure TEXT,
  stdout_bytes INTEGER NOT NULL DEFAULT 0,
  stderr_bytes INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  condition TEXT NOT NULL,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
