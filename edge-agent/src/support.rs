//! The support bundle: what somebody far away needs to see of a site, and nothing that must not leave it.
//!
//! Every text passes [`redact::Redactor`] on its way into the archive; there is no other way in.

pub mod archive;
pub mod gather;
pub mod redact;
pub mod ring;
mod secrets;
