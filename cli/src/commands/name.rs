//! How people name objects and workloads.

/// Namespace and name of `NAMESPACE/NAME`, or of a NAME in the namespace that is given beside it.
pub fn full_name<'a>(name: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_in_the_name_counts() {
        assert_eq!(full_name("web", "default"), ("default", "web"));
        assert_eq!(full_name("shop/web", "default"), ("shop", "web"));
    }
}
