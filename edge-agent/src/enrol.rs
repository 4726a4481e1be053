//! Joining a fleet: the site makes its keys, asks, and takes the grant into its database.
//!
//! Online a token proves that the site was meant; offline a person compares the fingerprint. Both ways end in
//! [`grant::admit`], which checks the roots from the pinned digest on and the director's signature.

pub mod grant;
pub mod identity;
pub mod offline;
pub mod online;

pub use identity::Identity;
pub use offline::OfflineError;
