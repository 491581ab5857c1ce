CREATE TABLE pubsub_topics (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE
);
CREATE TABLE pubsub_messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic INTEGER NOT NULL,
  data BLOB NOT NULL,
  metadata TEXT,
  partition_key TEXT,
  published INTEGER NOT NULL,
  expires INTEGER
);
CREATE INDEX pubsub_messages_topic ON pubsub_messages (topic, id);
CREATE TABLE pubsub_groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic INTEGER NOT NULL,
  name TEXT NOT NULL,
  cursor INTEGER NOT NULL,
  seen INTEGER NOT NULL,
  UNIQUE (topic, name)
);
CREATE TABLE pubsub_consumers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  group_id INTEGER NOT NULL,
  topic INTEGER NOT NULL,
  doorbell TEXT,
  lease INTEGER NOT NULL
);
CREATE INDEX pubsub_consumers_topic ON pubsub_consumers (topic);
CREATE TABLE pubsub_claims (
  group_id INTEGER NOT NULL,
  message INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  due INTEGER NOT NULL,
  partition_key TEXT,
  PRIMARY KEY (group_id, message)
) WITHOUT ROWID;
CREATE INDEX pubsub_claims_due ON pubsub_claims (group_id, owner, due, message);
CREATE INDEX pubsub_claims_key ON pubsub_claims (group_id, partition_key, message)
  WHERE partition_key IS NOT NULL;
CREATE TABLE pubsub_totals (bytes INTEGER NOT NULL);
INSERT INTO pubsub_totals (bytes) VALUES (0);
