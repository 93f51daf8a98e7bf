//! The kinds of policy. A kind is a row in `table.rs` and a folder here:
//!
//! ```text
//! KIND.rs          what may be written, and what it declares: whom it names, what it shapes
//! KIND/check.rs    what makes it valid by itself
//! KIND/in_set.rs   what is wrong with it beside the other objects, where the kinds like it do not share that
//! KIND/effect.rs   what it changes: what the compiler is told
//! ```
//!
//! The other files are what several kinds share: references, targets, matches, filters. Steps for a new kind are in
//! CONTRIBUTING.md.

pub mod authentication_policy;
pub mod authorization_policy;
pub mod backend;
pub mod external_service;
pub mod grpc_route;
pub mod http_route;
pub mod http_rule;
pub mod kind;
pub mod merge;
pub mod mesh;
pub mod port;
pub mod reference;
pub mod resilience;
pub mod role;
pub mod role_binding;
pub mod route;
pub mod route_filter;
pub mod route_match;
pub mod service;
pub mod spec;
pub(crate) mod table;
pub mod target;
pub mod tcp_route;
pub mod telemetry_policy;
pub mod traffic_policy;
pub mod workload;

pub use authentication_policy::AuthenticationPolicy;
pub use authorization_policy::AuthorizationPolicy;
pub use external_service::ExternalService;
pub use grpc_route::GrpcRoute;
pub use http_route::HttpRoute;
pub use kind::{API_VERSION, GATEWAY_API_VERSION, Kind, Level, Registration, UnknownKind};
pub use mesh::Mesh;
pub use role::Role;
pub use role_binding::RoleBinding;
pub use service::Service;
pub use spec::Spec;
pub use tcp_route::TcpRoute;
pub use telemetry_policy::TelemetryPolicy;
pub use traffic_policy::TrafficPolicy;
pub use workload::Workload;
