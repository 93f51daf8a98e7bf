//! What every change of the policies is asked beside what it changes: whether it is meant, how long to wait, and why.

use std::time::Duration;

use super::error::ApiError;

/// How long a change may be waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Whether a change is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyMode {
    /// Say what would happen.
    DryRun,
    Commit,
}

/// What is asked of a change.
#[derive(Debug)]
pub struct ChangeWishes {
    pub mode: ApplyMode,
    /// How long to wait for the proxies; a trial reaches none.
    pub wait: Option<Duration>,
    /// Why; empty where nobody said.
    pub message: String,
}

/// Makes the query of a call that changes policies: what each of them is asked, and what is its own. A struct that is flattened
/// into the others would not do: beside one, serde neither refuses a parameter that does not exist, nor reads a number or
/// a truth value from a query.
macro_rules! change_query {
    ($(#[$about:meta])* $name:ident { $($(#[$said:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[schemars(inline)]
        pub struct $name {
            /// Say what would happen, and write nothing
            #[serde(default)]
            dry_run: bool,
            /// Answer when the proxies concerned have the change, or after so long, such as 30s
            #[schemars(with = "Option<crate::api::parameter::Wait>")]
            wait: Option<String>,
            /// Why, in one line; the history tells it
            #[schemars(with = "Option<crate::api::parameter::Message>")]
            message: Option<String>,
            $($(#[$said])* $field: $type,)*
        }

        impl $name {
            /// What is asked of the change.
            fn wishes(
                &mut self,
            ) -> Result<crate::api::change::ChangeWishes, crate::api::error::ApiError> {
                use crate::api::change::{ApplyMode, ChangeWishes, read_wait};
                let wait = self.wait.as_deref().map(read_wait).transpose()?;
                let message = crate::api::author::read_message(self.message.take())?;
                let (mode, wait) =
                    if self.dry_run { (ApplyMode::DryRun, None) } else { (ApplyMode::Commit, wait) };
                Ok(ChangeWishes { mode, wait, message })
            }
        }
    };
}
pub(super) use change_query;

/// How long to wait.
pub fn read_wait(text: &str) -> Result<Duration, ApiError> {
    // A bare number says no unit, and is no duration but for 0.
    let wait = Some(text).filter(|text| text.ends_with(|last: char| last.is_ascii_alphabetic()));
    let wait = wait.and_then(|text| humantime::parse_duration(text).ok());
    wait.filter(|wait| *wait <= LONGEST_WAIT).ok_or_else(|| {
        ApiError::bad_request(format!("wait={text:?} is not a duration of at most 5m, such as 30s"))
    })
}
