//! Schema versions in a metadata table, as components-contrib `common/component/sql/migrations/postgres` keeps them.

use outrigger_component::Error;

use crate::{
    database::{Database, Session},
    error::{failed, made_by_another},
    statement::Param,
};

/// The row that is locked while migrations run, by the Go components as well.
const LOCK: &str = "lock";
/// How often a creation is tried: sidecars that create the same thing at once disturb each other.
const CREATE_ATTEMPTS: usize = 3;

/// What is to be brought up to date.
#[derive(Debug)]
pub(crate) struct Migrations<'a> {
    /// The metadata table.
    pub(crate) metadata_table: &'a str,
    /// The row of it that counts the steps done.
    pub(crate) key: &'a str,
    /// The table the steps make. When it is not there all steps are done whatever the count says: two components
    /// with tables of their own may share a count.
    pub(crate) table: &'a str,
    /// A schema of its own to create first.
    pub(crate) schema: Option<&'a str>,
    /// Each takes the table from the version before to its own; several statements each, without parameters. All
    /// are harmless when repeated.
    pub(crate) steps: &'a [String],
}

impl Migrations<'_> {
    /// Performs what is missing, in one transaction under the lock.
    ///
    /// # Errors
    /// When the stored level is no number, or the server fails.
    pub(crate) async fn perform(&self, database: &Database) -> Result<(), Error> {
        // Looking first spares the lock, and the right to write, when there is nothing to do.
        let exists = database
            .read(
                "failed to read migration level",
                "SELECT to_regclass($1)::text",
                &[Param::Text(self.metadata_table)],
            )
            .await?;
        let exists = matches!(exists.first().map(|row| row.text(0)), Some(Ok(Some(_))));
        if exists
            && self
                .level(&mut database.session("failed to read migration level").await?)
                .await?
                >= self.steps.len()
        {
            return Ok(());
        }
        if let Some(schema) = self.schema {
            // Asked first: creating needs a right even where there is nothing to create.
            let what = "failed to create the schema";
            let found = database
                .read(what, "SELECT to_regnamespace($1)::text", &[Param::Text(schema)])
                .await?;
            if !matches!(found.first().map(|row| row.text(0)), Some(Ok(Some(_)))) {
                create(database, what, &format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
            }
        }
        self.ensure_metadata_table(database).await?;
        let mut session = database.session("failed to perform migrations").await?;
        session
            .run(
                &format!(
                    "INSERT INTO {} (key, value) VALUES ($1, 'lock') ON CONFLICT (key) DO NOTHING",
                    self.metadata_table
                ),
                &[Param::Text(LOCK)],
            )
            .await?;
        session.run("BEGIN", &[]).await?;
        let outcome = self.locked(&mut session).await;
        let end = session
            .run(if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" }, &[])
            .await;
        if end.is_err() {
            session.discard();
        }
        outcome.and(end.map(drop))
    }

    async fn locked(&self, session: &mut Session) -> Result<(), Error> {
        session
            .run(
                &format!(
                    "SELECT value FROM {} WHERE key = $1 FOR UPDATE",
                    self.metadata_table
                ),
                &[Param::Text(LOCK)],
            )
            .await?;
        let level = self.level(session).await?;
        for (at, step) in self.steps.iter().enumerate().skip(level) {
            tracing::info!("Performing migration {}", at + 1);
            session.script(step).await?;
            session
                .run(
                    &format!(
                        "INSERT INTO {table} AS m (key, value) VALUES ($1, $2)
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value
                         WHERE m.value::int8 < excluded.value::int8",
                        table = self.metadata_table
                    ),
                    &[Param::Text(self.key), Param::Text(&(at + 1).to_string())],
                )
                .await?;
        }
        Ok(())
    }

    /// The steps that need not be done.
    async fn level(&self, session: &mut Session) -> Result<usize, Error> {
        let rows = session
            .run(
                &format!(
                    "SELECT value, to_regclass($2)::text FROM {} WHERE key = $1",
                    self.metadata_table
                ),
                &[Param::Text(self.key), Param::Text(self.table)],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(0);
        };
        let text = row.required_text(0)?;
        let level = text.parse().map_err(|_| {
            Error::configuration(format!("invalid migration level found in metadata table: {text}"))
        })?;
        Ok(if row.text(1)?.is_none() { 0 } else { level })
    }

    async fn ensure_metadata_table(&self, database: &Database) -> Result<(), Error> {
        let what = "failed to create metadata table";
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {} (key text NOT NULL PRIMARY KEY, value text NOT NULL)",
            self.metadata_table
        );
        create(database, what, &statement).await
    }
}

/// Runs a `CREATE … IF NOT EXISTS` beside others that run it too. The server looks before it locks, so the slower of
/// two is refused although the other made what it wanted.
async fn create(database: &Database, what: &'static str, statement: &str) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let mut session = database.session(what).await?;
        match session.try_run(statement, &[]).await? {
            Ok(_) => return Ok(()),
            Err(error) if attempt < CREATE_ATTEMPTS && made_by_another(&error) => attempt += 1,
            Err(error) => return Err(failed(what, &error)),
        }
    }
}

/// The step both formats share: `row_id`, which numbers the rows in the order they came, for paging through keys.
/// Rows that were there before are numbered by `order`.
pub(crate) fn row_id_step(table: &str, order: &str) -> String {
    let name = table.rsplit_once('.').map_or(table, |(_, name)| name);
    let index = match name.strip_suffix('"') {
        Some(quoted) => format!("{quoted}_row_id_uidx\""),
        None => format!("{name}_row_id_uidx"),
    };
    let literal = table.replace('\'', "''");
    format!(
        "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS row_id BIGINT;
         WITH ranked AS (
             SELECT key, ROW_NUMBER() OVER (ORDER BY {order} ASC, key ASC) AS rn FROM {table} WHERE row_id IS NULL
         )
         UPDATE {table} AS t SET row_id = r.rn FROM ranked r WHERE r.key = t.key;
         ALTER TABLE {table} ALTER COLUMN row_id SET NOT NULL;
         DO $body$
         BEGIN
             IF NOT EXISTS (
                 SELECT FROM pg_attribute
                 WHERE attrelid = to_regclass('{literal}') AND attname = 'row_id' AND attidentity <> ''
             ) THEN
                 ALTER TABLE {table} ALTER COLUMN row_id ADD GENERATED BY DEFAULT AS IDENTITY;
             END IF;
         END
         $body$;
         SELECT setval(
             pg_get_serial_sequence('{literal}', 'row_id'),
             COALESCE((SELECT MAX(row_id) FROM {table}), 0) + 1,
             false
         );
         CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} (row_id);"
    )
}
