//! Reads the rows without taking the state directory, also beside a running agent: the write-ahead log lets
//! readers in, and a reader changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::open::open_as_it_is;
use super::{DATABASE, load};
use crate::core::write::{ReceiptRow, Rows};
use crate::ports::store::StoreError;

/// Receipts read at once.
const PAGE: u64 = 100;
/// Bytes of one page, which a page of the largest receipts stays under.
const PAGE_BYTES: usize = 64 << 20;

/// How a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseHealth {
    /// Version of its schema.
    pub schema: u32,
    /// What SQLite's own check found; `ok` alone is good.
    pub integrity: Vec<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of it that are free.
    pub free_bytes: u64,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Bytes of the complete blobs that it names.
    pub blob_bytes: u64,
}

/// A look at the database.
#[derive(Debug)]
pub struct Peek {
    /// `None` where there is no database yet.
    connection: Option<Connection>,
}

impl Peek {
    /// Opens the database of a state directory for reading; where there is none, nothing is there.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(DATABASE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(Self { connection: None }),
            Err(error) => return Err(StoreError::Failed(format!("{}: {error}", path.display()))),
        }
        let connection = open_as_it_is(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok(Self { connection: (tables > 0).then_some(connection) })
    }

    /// Everything that a core would be loaded from.
    ///
    /// # Errors
    /// [`StoreError`] where a row cannot be read.
    pub fn rows(&self) -> Result<Rows, StoreError> {
        self.connection.as_ref().map_or_else(|| Ok(Rows::default()), load::load)
    }

    /// How the database is; `None` where there is none. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError`] where even that cannot be told.
    pub fn health(&self) -> Result<Option<DatabaseHealth>, StoreError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
        let words = |sql: &str| -> Result<Vec<String>, rusqlite::Error> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let page = number("PRAGMA page_size")?;
        let mut rows = BTreeMap::new();
        for table in words("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")? {
            let count = number(&format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\"")))?;
            rows.insert(table, count);
        }
        Ok(Some(DatabaseHealth {
            schema: connection.query_row("PRAGMA user_version", [], |row| row.get(0))?,
            integrity: words("PRAGMA integrity_check(20)")?,
            bytes: number("PRAGMA page_count")?.saturating_mul(page),
            free_bytes: number("PRAGMA freelist_count")?.saturating_mul(page),
            rows,
            blob_bytes: number("SELECT coalesce(sum(size), 0) FROM blob")?,
        }))
    }

    /// The newest receipts of the site's chain that `read` wants, at most `count`, newest first.
    ///
    /// # Errors
    /// [`StoreError`] where a row cannot be read.
    pub fn newest_receipts<T>(
        &self,
        mut read: impl FnMut(&ReceiptRow) -> Option<T>,
        count: usize,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.rows()?;
        let (Some(connection), Some(meta)) = (&self.connection, &rows.meta) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut upto = meta.receipt_next - 1;
        while upto >= meta.receipt_first && found.len() < count {
            let from = upto.saturating_sub(PAGE - 1).max(meta.receipt_first);
            let page = load::receipts(connection, &meta.chain_id, (from, upto), PAGE_BYTES)?;
            found.extend(page.iter().rev().filter_map(&mut read).take(count - found.len()));
            upto = from - 1;
        }
        Ok(found)
    }
}
