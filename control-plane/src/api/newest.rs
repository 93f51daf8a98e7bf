//! The policies that a call is about.

use std::sync::Arc;

use weft_policies::PolicySet;

use super::error::ApiError;
use super::state::Api;

/// The newest policies; while the store is away, those that are served.
pub async fn newest(api: &Api) -> Result<(u64, Arc<PolicySet>), ApiError> {
    match api.policies.head().await {
        Ok(head) => Ok((head.revision(), head.set)),
        Err(error) => {
            let published = api.reconciler.published();
            let published = published.borrow();
            if published.ready {
                Ok((published.policy_revision, Arc::clone(&published.set)))
            } else {
                Err(error.into())
            }
        }
    }
}
