-- Format 4: what a workspace may reach. Applied on top of format 3, also to a fresh registry.
-- Rules as JSON; null is what a policy without any says.
ALTER TABLE workspaces ADD COLUMN network_rules TEXT;
-- Names of secrets and where they come from, as JSON; never a value.
ALTER TABLE workspaces ADD COLUMN secrets TEXT NOT NULL DEFAULT '[]';
-- What the newest entry of the network log is, so that a log that was cut shows.
ALTER TABLE workspaces ADD COLUMN network_log_sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN network_log_hash TEXT NOT NULL DEFAULT '';
