//! The five doors to the world: traits that the real edges and the simulator's models both implement.
//!
//! Nothing behind them may hold process-global state, because thousands of agents run in one process.

pub mod absent;
pub mod cancel;
pub mod cluster;
pub mod content;
pub mod images;
pub mod link;
pub mod store;

use std::future::Future;
use std::pin::Pin;

pub use cluster::Cluster;
pub use content::Content;
pub use images::Images;
pub use link::Link;
pub use store::Store;

/// A future behind a pointer, so that ports can be `dyn`.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
