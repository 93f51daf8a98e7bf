//! Why a join, a renewal or a goodbye is refused, and how that is said in gRPC.

use tonic::{Code, Status};
use weft_api::names::InvalidName;
use weft_api::{ServiceId, WorkloadId};
use weft_store::{CommitError, ReadError};

use super::declared::DeclarationError;
use crate::StoreError;
use crate::ca::{CaError, CsrError, LedgerFull, Limited, NoRoom};
use crate::identity::instances::NotAMember;
use crate::identity::tokens::TokenError;
use crate::presence::grants::NotGranted;

/// A refusal, in words for the person at the other end.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The workload's name, together with its service.
    #[error("the DNS name {0} has more than 253 bytes; use a shorter workload name")]
    NameTooLong(String),
    #[error("the request declares no workload")]
    NoWorkload,
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// The name belongs to another service.
    #[error(
        "the workload {0} belongs to the service {1}; use another --name, or `weft delete workload` first"
    )]
    Taken(WorkloadId, ServiceId),
    /// The name belongs to an operator's file.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// An instance that lives has the name.
    #[error(
        "the workload {0} is connected and answers; give this one another --name, or stop the other first \
         (`weft proxy revoke {0}` ends it for good)"
    )]
    Alive(WorkloadId),
    #[error(transparent)]
    Limited(#[from] Limited),
    /// An instance has enough certificates.
    #[error("{0}; renew when half of a certificate's life is over, and use the newest")]
    ManyLeaves(NoRoom),
    /// A name has been joined too often.
    #[error(
        "{1}; the workload {0} joins anew with each start: keep its --identity-dir over restarts, give each its own \
         --name, or run `weft proxy revoke {0}`, which takes the certificates of all of them away"
    )]
    ManyInstances(WorkloadId, NoRoom),
    /// Others were always faster.
    #[error("others use the same token or name at the same moment; try again")]
    Contended,
    #[error("a report names at most 16 roots, each by the 32 bytes of a SHA-256")]
    Report,
    #[error("this call needs the client certificate of a joined workload")]
    NoCertificate,
    /// The control plane's own certificate, say.
    #[error("the client certificate is not a workload's")]
    NotAWorkload,
    /// A certificate that does not count any more.
    #[error(transparent)]
    NotAMember(#[from] NotAMember),
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for JoinRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Read(error) => Self::Read(error),
            StoreError::Commit(error) => Self::Commit(error),
        }
    }
}

impl JoinRefusal {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Token(TokenError::Invalid) | Self::NoCertificate => Code::Unauthenticated,
            Self::Token(TokenError::Store(_)) => Code::Unavailable,
            Self::Token(
                TokenError::Expired | TokenError::UsedUp | TokenError::Ttl(_) | TokenError::Uses(_),
            )
            | Self::Declaration(
                DeclarationError::Label(..) | DeclarationError::Address(..) | DeclarationError::NoProxy,
            )
            | Self::NotAWorkload => Code::PermissionDenied,
            Self::NotAMember(NotAMember::Expired | NotAMember::Unknown) => Code::Unauthenticated,
            Self::NotAMember(NotAMember::Store(_)) => Code::Unavailable,
            Self::NotAMember(_) => Code::PermissionDenied,
            Self::Csr(_)
            | Self::Report
            | Self::Name(_)
            | Self::NameTooLong(_)
            | Self::NoWorkload
            | Self::Declaration(DeclarationError::Invalid { .. }) => Code::InvalidArgument,
            Self::Taken(..) | Self::NotGranted(_) | Self::Alive(_) => Code::AlreadyExists,
            Self::Limited(_) | Self::ManyLeaves(_) | Self::ManyInstances(..) => Code::ResourceExhausted,
            Self::Contended => Code::Aborted,
            Self::Authority(_) => Code::Internal,
            Self::Ledger(_) | Self::Read(_) | Self::Commit(_) => Code::Unavailable,
        }
    }
}

impl From<JoinRefusal> for Status {
    fn from(refusal: JoinRefusal) -> Self {
        let code = refusal.code();
        if code == Code::Internal {
            // Which of our own parts failed is for our log, not for the wire.
            tracing::error!(event = "certificate_not_issued", %refusal, "cannot issue a certificate");
            return Self::internal("the control plane cannot issue a certificate now; its log says why");
        }
        Self::new(code, refusal.to_string())
    }
}
