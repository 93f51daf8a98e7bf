//! One configuration and one script of requests through stock Envoy and through weft-proxy: what callers, servers and
//! statistics see is compared.

mod authz;
mod balancing;
mod external;
mod filters;
mod jwt;
