//! The fields of AuthenticationPolicies that are merged by level.

use super::{AuthenticationPolicy, JwtAuthentication};
use crate::kinds::kind::Level;
use crate::kinds::merge::{Effective, Merged, merged_fields};
use crate::object::PolicyKey;

merged_fields! {
    /// What requests to a port have to prove. What no policy sets is `None`: nothing.
    EffectiveAuthentication of AuthenticationPolicy {
        /// Whose tokens they bring. One field: that a token is required belongs to whose tokens are taken.
        jwt: JwtAuthentication = "spec.jwt", |p| p.jwt.clone();
    }
}
