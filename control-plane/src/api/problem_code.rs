//! The codes that refused calls carry, and the status that each comes with.

use axum::http::StatusCode;

macro_rules! problem_codes {
    ($($(#[doc = $meaning:literal])+ $code:ident $word:literal $status:ident,)*) => {
        /// Why a call was refused, for programs. Each comes with one status, so that an answer's status says which there can be.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ProblemCode {
            $($(#[doc = $meaning])+ $code,)*
        }

        impl ProblemCode {
            /// All of them, by status.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The word that travels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $word,)*
                }
            }

            /// The status of an answer with this code.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)*
                }
            }
        }
    };
}

problem_codes! {
    /// The request cannot be read: a parameter, a header, the body, a name in the path.
    BadRequest "bad_request" BAD_REQUEST,
    /// No token, one that is not good, or a session that has ended.
    Unauthenticated "unauthenticated" UNAUTHORIZED,
    /// A page of another origin sent it; changes are taken from the control plane's own page only.
    CrossOrigin "cross_origin" FORBIDDEN,
    /// A right is missing; `detail` says which, and `weft operator whoami` what there is.
    Forbidden "forbidden" FORBIDDEN,
    /// This browser's session only reads; switch changes on first.
    ReadOnly "read_only" FORBIDDEN,
    /// A browser's session may not do this: a token is needed.
    TokenNeeded "token_needed" FORBIDDEN,
    /// The request names a host that is not the control plane's; `--xds-name` adds one.
    WrongHost "wrong_host" FORBIDDEN,
    /// There is no such path, object, proxy, token or revision.
    NotFound "not_found" NOT_FOUND,
    /// The path exists, the method does not apply to it.
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED,
    /// Two documents set one thing at one level; `violations` names both.
    Conflict "conflict" CONFLICT,
    /// There are as many principals as there may be.
    EnoughPrincipals "too_many" CONFLICT,
    /// A rotation of the root or another issuer is under way, or there is none to undo or import; `weft ca status` tells.
    RootRotation "root_rotation" CONFLICT,
    /// Another control plane does not have the seal key yet; `detail` names it.
    SealKeyMissing "seal_key_missing" CONFLICT,
    /// Nobody else would be left to take a service's requests; `force` does it all the same.
    LastInstance "last_instance" CONFLICT,
    /// There is a principal of that name already.
    Exists "exists" CONFLICT,
    /// That revision is not kept any more; the oldest that is stands in `detail`.
    NotKept "not_kept" GONE,
    /// What the caller saw (`If-Match`, `ifRevision`) is not what is there any more.
    ChangedMeanwhile "changed_meanwhile" PRECONDITION_FAILED,
    /// The body or the set of documents is beyond the limit.
    TooLarge "too_large" PAYLOAD_TOO_LARGE,
    /// The body is of a type, or an encoding, that this call does not take.
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE,
    /// Documents are not right; `violations` has each, with line and column.
    Invalid "invalid" UNPROCESSABLE_ENTITY,
    /// An authority of your own that does not fit; `detail` names the certificate, its field and what to do.
    UnfitAuthority "unfit_authority" UNPROCESSABLE_ENTITY,
    /// Too many sign-ins from this address failed, or one principal calls too often; wait.
    TooMany "too_many" TOO_MANY_REQUESTS,
    /// A fault of the control plane's own; its log says more.
    Internal "internal" INTERNAL_SERVER_ERROR,
    /// As many backups are taken from this replica as there may be; try again.
    Busy "busy" SERVICE_UNAVAILABLE,
    /// Other replicas kept changing the policies in between; try again.
    Contended "contended" SERVICE_UNAVAILABLE,
    /// The newest policies are not compiled yet, or the control plane ends; try again.
    NotReady "not_ready" SERVICE_UNAVAILABLE,
    /// The store does not answer; nothing was written, proxies keep what they have.
    StoreUnavailable "store_unavailable" SERVICE_UNAVAILABLE,
    /// So many taps are open at this replica already.
    TooManyTaps "too_many_taps" SERVICE_UNAVAILABLE,
    /// So many watch this replica already.
    TooManyWatchers "too_many_watchers" SERVICE_UNAVAILABLE,
}
