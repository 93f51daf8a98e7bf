//! Who may hold a token of the API: operators, who rule the mesh, and principals, who may do what their roles say.

use std::fmt;

use weft_policies::PolicySet;
use weft_policies::kinds::role::effect::Rights;
use weft_store::ReadError;
use zeroize::Zeroizing;

use super::operator::{OperatorError, OperatorId, Operators};
use super::principals::{Principal, Principals};

/// Whose token it was that somebody showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenHolder {
    Operator(OperatorId),
    Principal(Principal),
}

/// What people are told of operators, who have no names.
pub const OPERATOR: &str = "operator";

impl fmt::Display for TokenHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(_) => f.write_str(OPERATOR),
            Self::Principal(principal) => principal.name.fmt(f),
        }
    }
}

impl TokenHolder {
    /// What it may do by these policies.
    #[must_use]
    pub fn rights(&self, set: &PolicySet) -> Rights {
        match self {
            Self::Operator(_) => Rights::All,
            Self::Principal(principal) => set.rights_of(&principal.name),
        }
    }
}

/// All holders of tokens.
#[derive(Debug)]
pub struct TokenHolders {
    operators: Operators,
    pub principals: Principals,
}

impl TokenHolders {
    #[must_use]
    pub fn new(operators: Operators, principals: Principals) -> Self {
        Self { operators, principals }
    }

    /// Whose token this is, if it is one.
    ///
    /// # Errors
    /// When the store has to be asked and cannot be.
    pub async fn identify(&self, token: &str) -> Result<Option<TokenHolder>, ReadError> {
        if let Some(operator) = self.operators.identify(token).await? {
            return Ok(Some(TokenHolder::Operator(operator)));
        }
        Ok(self.principals.identify(token).await?.map(TokenHolder::Principal))
    }

    /// Another token for the operators of this replica, in place of the one before.
    ///
    /// # Errors
    /// When the store or the file cannot be written.
    pub async fn rotate_operator(&self) -> Result<Zeroizing<String>, OperatorError> {
        self.operators.rotate().await
    }

    /// Whether a token that was good still is.
    ///
    /// # Errors
    /// When the store has to be asked and cannot be.
    pub async fn knows(&self, holder: &TokenHolder) -> Result<bool, ReadError> {
        match holder {
            TokenHolder::Operator(operator) => self.operators.knows(*operator).await,
            TokenHolder::Principal(principal) => self.principals.knows(principal).await,
        }
    }
}
