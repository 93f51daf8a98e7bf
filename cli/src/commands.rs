//! One file for each command.

pub mod apply;
pub mod bootstrap;
pub mod context;
pub mod delete;
pub mod explain;
pub mod get;
pub mod login;
pub mod proxy;
pub mod tap;
pub mod token;
pub mod ui;
