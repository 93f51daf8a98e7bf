//! What strangers, joiners, members and clients of the API try, and must not get. Each test is named for what holds.
//!
//! Findings of the reviews stand at their tests by their ids: C1, H1 … M6, L1 … L8 for the mesh's security, `xds D…` and
//! `ux D…` for the others. Those that are about load stand where the load is made: floods of strangers (H4, M1, M2) and
//! clients that stop reading (`proxy H1`, `H2`) in the tests of the listeners and of the engine, the second machine
//! (`ux D1` to `D3`) in the test of three network namespaces.
//!
//! | module | who attacks what |
//! | --- | --- |
//! | identity | a joiner with names, requests, declarations; forged certificates at every door |
//! | membership | a joiner that wants to be a member of another service: what others are told |
//! | owned | the same, with traffic through both proxies |
//! | instance | whoever holds a certificate that was replaced, deleted or is over |
//! | refusals | a member that refuses what it is sent |
//! | revocation | whoever holds a certificate that was revoked |
//! | rotation | the same, and members that lie about their trust, while the root is being replaced |
//! | own_authority | whoever would move the mesh to another certificate authority |
//! | tokens | whoever holds a join token, used or not |
//! | impostor | a server in the control plane's place |
//! | discovery | a member on its own stream: others' configuration, secrets, names |
//! | bounds | a member that asks for, or reports, too much |
//! | framing | a caller and a server whose bytes are no HTTP/1.1, or two kinds of it |
//! | traffic | an application on its own sidecar |
//! | api | whoever reaches the REST API and the admin endpoints |

mod api;
mod bounds;
mod discovery;
mod framing;
mod ground;
mod identity;
mod impostor;
mod instance;
mod membership;
mod own_authority;
mod owned;
mod refusals;
mod revocation;
mod rotation;
mod tokens;
mod traffic;
