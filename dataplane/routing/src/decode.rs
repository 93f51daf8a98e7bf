//! Envoy's messages as what decides. Fields that are not supported, and without which a resource would mean something
//! else, refuse it by name; cosmetic ones are noted.

// Fields that Envoy calls deprecated are read all the same: to honour them, or to refuse them by name.
#![allow(deprecated)]

pub mod fields;
pub mod matcher;
mod metadata;
pub mod path;
pub mod rbac;
pub mod route;
