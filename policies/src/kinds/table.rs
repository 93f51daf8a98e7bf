//! The table of kinds, one row each: its type and module, and what people and programs call it.
//!
//! A row is read by those who declare something for each kind: [`super::kind`] (names), [`crate::policy`] (dispatch) and
//! [`crate::schema`]. Everything else about a kind is in its own folder, behind [`super::spec::Spec`].

/// `with_kinds!(declare)` hands all rows to the macro `declare`. The order is that in which objects are listed.
macro_rules! with_kinds {
    ($declare:ident) => {
        $declare! {
            /// Posture and trust of the whole mesh; one object named `mesh`.
            Mesh mesh {
                name: "Mesh",
                plural: "meshes",
                short: &[],
                api_versions: &[API_VERSION],
                level: Some(Level::Mesh),
                registration: Registration::Nobody,
            }
            /// Name, ports and members.
            Service service {
                name: "Service",
                plural: "services",
                short: &["svc"],
                api_versions: &[API_VERSION],
                level: Some(Level::Service),
                registration: Registration::Members,
            }
            /// Something outside of the mesh, by the names under which it is called.
            ExternalService external_service {
                name: "ExternalService",
                plural: "externalservices",
                short: &["es", "external"],
                api_versions: &[API_VERSION],
                level: Some(Level::Service),
                registration: Registration::Nobody,
            }
            /// One instance of an application: what a document says of it, beside what it declares when it joins.
            Workload workload {
                name: "Workload",
                plural: "workloads",
                short: &["wl"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Itself,
            }
            /// Routing of HTTP requests.
            HttpRoute http_route {
                name: "HTTPRoute",
                plural: "httproutes",
                short: &["hr"],
                api_versions: &[API_VERSION, GATEWAY_API_VERSION, GATEWAY_API_BETA],
                level: Some(Level::Route),
                registration: Registration::Nobody,
            }
            /// Routing of calls of gRPC.
            GrpcRoute grpc_route {
                name: "GRPCRoute",
                plural: "grpcroutes",
                short: &["gr"],
                api_versions: &[API_VERSION, GATEWAY_API_VERSION],
                level: Some(Level::Route),
                registration: Registration::Nobody,
            }
            /// Routing of connections, in proportion to weights.
            TcpRoute tcp_route {
                name: "TCPRoute",
                plural: "tcproutes",
                short: &["tr"],
                api_versions: &[API_VERSION, GATEWAY_API_VERSION, GATEWAY_API_ALPHA],
                level: Some(Level::Route),
                registration: Registration::Nobody,
            }
            /// Everything about calling a backend.
            TrafficPolicy traffic_policy {
                name: "TrafficPolicy",
                plural: "trafficpolicies",
                short: &["tp"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
            /// Whose tokens requests bring, and whether they have to.
            AuthenticationPolicy authentication_policy {
                name: "AuthenticationPolicy",
                plural: "authenticationpolicies",
                short: &["authn"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
            /// Who may call what.
            AuthorizationPolicy authorization_policy {
                name: "AuthorizationPolicy",
                plural: "authorizationpolicies",
                short: &["ap", "authz"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
            /// What services tell of the requests that they are asked.
            TelemetryPolicy telemetry_policy {
                name: "TelemetryPolicy",
                plural: "telemetrypolicies",
                short: &["tel"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
            /// What a principal may do with the API.
            Role role {
                name: "Role",
                plural: "roles",
                short: &[],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
            /// Which principals have a Role.
            RoleBinding role_binding {
                name: "RoleBinding",
                plural: "rolebindings",
                short: &["rb"],
                api_versions: &[API_VERSION],
                level: None,
                registration: Registration::Nobody,
            }
        }
    };
}
pub(crate) use with_kinds;
