-- Format 3: shells, services, published ports. Applied on top of format 2, also to a fresh registry.
ALTER TABLE workspaces ADD COLUMN network_policy TEXT NOT NULL DEFAULT 'off';
-- Shells are numbered, and so are starts of services; a number is never used twice in a workspace, and the guest knows them by it.
ALTER TABLE workspaces ADD COLUMN shell_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN service_start_count INTEGER NOT NULL DEFAULT 0;
CREATE TABLE shells (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  command TEXT NOT NULL,
  cwd TEXT NOT NULL,
  user TEXT NOT NULL,
  cols INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  opened_at INTEGER NOT NULL,
  ended_at INTEGER,
  exit_code INTEGER,
  end_reason TEXT,
  PRIMARY KEY (workspace, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE services (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  -- Of its newest start.
  number INTEGER NOT NULL,
  spec TEXT NOT NULL,
  state TEXT NOT NULL,
  pid INTEGER,
  started_at INTEGER NOT NULL,
  ready_at INTEGER,
  ended_at INTEGER,
  exit_code INTEGER,
  signal INTEGER,
  stop_reason TEXT,
  restart_count INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE ports (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  host_port INTEGER NOT NULL,
  guest_port INTEGER NOT NULL,
  -- Whether the host's port was asked for by number.
  fixed INTEGER NOT NULL,
  -- Empty: it lives and dies with the machine.
  service TEXT NOT NULL,
  PRIMARY KEY (workspace, host_port)
) STRICT, WITHOUT ROWID;
