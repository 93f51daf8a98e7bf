//! What is the same where it is one and the same object.

use std::ops::Deref;
use std::sync::Arc;

/// An immutable part of the configuration. Two are equal where they are one object: what is prepared anew counts as changed,
/// and comparing costs nothing.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Shared<T> {}

impl<T> From<Arc<T>> for Shared<T> {
    fn from(part: Arc<T>) -> Self {
        Self(part)
    }
}

impl<T> Deref for Shared<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use std::cell::Cell;

    use imbl::OrdMap;

    /// Counts how often it is compared.
    #[derive(Debug, Clone)]
    struct Counted(u32, Rc<Cell<usize>>);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn what_two_configurations_share_is_not_compared() {
        let compared = Rc::new(Cell::new(0));
        let of = |n: u32| (format!("shop/service-{n}/http"), Counted(n, Rc::clone(&compared)));
        let before: OrdMap<String, Counted> = (0..2000).map(of).collect();
        let mut after = before.clone();
        after.insert("shop/service-1000/http".to_owned(), Counted(9, Rc::clone(&compared)));
        assert_eq!(before.diff(&after).count(), 1);
        assert!(compared.get() < 150, "{} of 2,000", compared.get());
    }
}
