-- Format 2: seeds, snapshots, events. Applied on top of format 1, also to a fresh registry.
ALTER TABLE workspaces ADD COLUMN seed TEXT;
ALTER TABLE workspaces ADD COLUMN baseline_layer TEXT REFERENCES layers (id);
-- Commands up to this sequence belong to a life before the last reset.
ALTER TABLE workspaces ADD COLUMN sequence_base INTEGER NOT NULL DEFAULT 0;
CREATE TABLE snapshots (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  -- 'disk' or 'live'
  kind TEXT NOT NULL,
  root_layer TEXT REFERENCES layers (id),
  workspace_layer TEXT REFERENCES layers (id),
  shape TEXT NOT NULL,
  -- Of a live one: its folder below `checkpoints`, and the bytes of guest memory in it.
  checkpoint TEXT,
  memory_bytes INTEGER NOT NULL DEFAULT 0,
  entry_count INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (workspace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
  workspace TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  PRIMARY KEY (workspace, sequence)
) STRICT, WITHOUT ROWID;
