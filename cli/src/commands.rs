//! One file for each command.

pub mod apply;
pub mod bootstrap;
pub mod delete;
pub mod get;
pub mod proxy;
pub mod token;
