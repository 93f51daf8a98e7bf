//! The client's side of one discovery stream, as a state machine, for both variants.
//!
//! ```text
//!   subscribe ──► Session ──next_request──► wire
//!   wire ──on_response──► Update ──(decode, prepare, swap)──► answer ──► Session
//! ```
//!
//! It outlives streams: [`Session::on_connect`] begins a new one, states every subscription again and says what is held
//! already (`initial_resource_versions`), so that an unchanged world is not sent twice (R1). A version counts as
//! held only when its [`Update`] was answered by [`Verdict::Ack`].
//!
//! Not here: what bodies mean, sockets, back-off.

mod read;
mod session;
mod subscription_state;
#[cfg(test)]
mod tests;
mod update;

pub use session::Session;
pub use update::{Added, ResponseId, Update, Verdict};
