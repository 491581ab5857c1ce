-- How long a group is kept after its last reader, in milliseconds; NULL: as long as messages are.
ALTER TABLE pubsub_groups ADD COLUMN life INTEGER;
