//! What the benchmarks of proxies share: peers that run side by side on loopback, load, and what it cost them.
//!
//! ```text
//! processor 1                      processor 0
//! wrk ──────────────────────────▶  the peer under load, one worker
//! nginx (origin) ◀───────────────  the others wait, and use nothing
//! ```
//!
//! All peers run during the whole measurement and take turns: A B C D, A B C D, … so that a slow moment of the machine
//! meets all of them. CPU time is the scheduler's count for the peer's processes alone, read before and after each turn.

pub mod build;
pub mod configs;
pub mod contest;
pub mod load;
pub mod origin;
pub mod process;
pub mod report;
