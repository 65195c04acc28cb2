-- Format 5: where a machine is found, whatever a client's environment says, and which process a number means.
ALTER TABLE machines ADD COLUMN folder TEXT;
ALTER TABLE machines ADD COLUMN started_ticks INTEGER;
ALTER TABLE machines ADD COLUMN pid_namespace INTEGER;
