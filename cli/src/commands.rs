//! One file for each command.

pub mod apply;
pub mod audit;
pub mod authority;
pub mod bootstrap;
pub mod bundle;
pub mod check;
pub mod context;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod drain;
mod effective;
pub mod explain;
pub mod get;
pub mod history;
pub mod import;
pub mod login;
pub mod name;
pub mod operator;
pub mod proxy;
pub mod rollback;
pub mod tap;
pub mod token;
pub mod ui;
pub mod validate;
pub mod version;
pub mod watch;
