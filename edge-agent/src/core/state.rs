//! Where the work on an app stands, finer than the states that everybody sees.
//!
//! The states themselves are `airlift_bundles::document::status::AppState`: hub and site say the same words.

use std::fmt;
use std::str::FromStr;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word in the database, in status and in pages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or(UnknownWord)
            }
        }
    };
}

/// A word in the database that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

words! {
    /// The step of the work on one generation; in a rollback the same steps are walked for the generation before.
    Step {
        /// Nothing is being done but keeping right.
        Rest = "rest",
        /// Begin when the apps that it requires are there.
        Wait = "wait",
        /// Fetch content.
        Fetch = "fetch",
        /// Render, check, and look for what exists already.
        Prepare = "prepare",
        /// Import images.
        Import = "import",
        /// Apply wave by wave.
        Apply = "apply",
        /// Wait for health, then soak.
        Settle = "settle",
        /// Wait for the retire delay.
        RetireWait = "retire-wait",
        /// Delete everything of the app.
        RetireDelete = "retire-delete",
    }
}

words! {
    /// Why the steps are walked.
    Purpose {
        /// For the target of the assignment.
        Install = "install",
        /// For the healthy generation before.
        RollBack = "roll-back",
        /// For the healthy generation itself, on a rebuilt cluster or after its plan was lost.
        Repair = "repair",
    }
}

words! {
    /// What came of a generation at this site.
    GenerationVerdict {
        /// Not decided yet.
        Open = "open",
        /// It was healthy for its soak time.
        Healthy = "healthy",
        /// It failed; it is not tried again until its tuple or `retry` changes.
        Failed = "failed",
        /// It is refused before anything changed.
        Refused = "refused",
        /// A person at the site went back from it.
        LeftByHand = "left-by-hand",
    }
}
