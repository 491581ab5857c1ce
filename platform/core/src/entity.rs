//! Entities, their attributes, and where the values come from (J1).

use std::{
    any::Any,
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::broadcast;

/// Changes that a subscriber may be behind; a slower one is told how many it has missed.
pub const CHANGES: usize = 256;

/// Where the values of an attribute come from.
pub trait Provider<T>: Send + Sync + 'static {
    /// The present value; `None` while there is none. Called for every question, so it should be quick.
    fn value(&self) -> Option<T>;

    /// Called once, when the attribute is added: changes are to be told through `changes`.
    fn attached(&self, changes: Changes<T>);
}

/// Tells all subscribers of an attribute that its value has changed.
pub struct Changes<T>(broadcast::Sender<T>);

impl<T: Clone> Changes<T> {
    /// Tells it; nobody being there is no error. Gives the number of those who were told.
    pub fn tell(&self, value: T) -> usize {
        self.0.send(value).unwrap_or(0)
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({} subscribers)", self.0.receiver_count())
    }
}

/// A subscriber's end: every change from the time of subscription, in order.
pub struct Subscription<T>(broadcast::Receiver<T>);

/// A subscriber has been too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} changes were missed")]
pub struct Missed(pub u64);

impl<T: Clone> Subscription<T> {
    /// The next change; `None` when the attribute is gone. Cancel-safe.
    ///
    /// # Errors
    /// [`Missed`], once; the next call gives the oldest change there still is.
    pub async fn next(&mut self) -> Result<Option<T>, Missed> {
        match self.0.recv().await {
            Ok(value) => Ok(Some(value)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(count)) => Err(Missed(count)),
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// Why an entity or attribute is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntityError {
    /// The identifier is taken: an entity is registered once.
    #[error("entity {0:?} is registered already")]
    Registered(String),
    /// The entity has an attribute of this name.
    #[error("entity {entity:?} has an attribute {attribute:?} already")]
    Attribute {
        /// Whose.
        entity: String,
        /// Which.
        attribute: String,
    },
    /// The attribute has values of another type.
    #[error("attribute {attribute:?} of entity {entity:?} has no values of type {asked}")]
    WrongType {
        /// Whose.
        entity: String,
        /// Which.
        attribute: String,
        /// Rust's name of the type that was asked for.
        asked: &'static str,
    },
}

/// Entities by identifier. A value, to be made once by a program and passed on; clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    entities: Arc<RwLock<HashMap<String, Entity>>>,
}

impl Registry {
    /// One without entities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an entity.
    ///
    /// # Errors
    /// [`EntityError::Registered`].
    pub fn register(&self, id: impl Into<String>) -> Result<Entity, EntityError> {
        match self.entities.write().entry(id.into()) {
            Entry::Occupied(taken) => Err(EntityError::Registered(taken.key().clone())),
            Entry::Vacant(free) => {
                let entity = Entity {
                    id: free.key().as_str().into(),
                    attributes: Arc::default(),
                };
                Ok(free.insert(entity).clone())
            }
        }
    }

    /// A registered entity.
    pub fn entity(&self, id: &str) -> Option<Entity> {
        self.entities.read().get(id).cloned()
    }
}

/// Something with attributes; clones are the same entity.
#[derive(Clone)]
pub struct Entity {
    id: Arc<str>,
    attributes: Arc<RwLock<HashMap<String, Arc<dyn Any + Send + Sync>>>>,
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entity({:?})", self.id)
    }
}

/// An attribute with values of type `T`.
struct Attribute<T> {
    provider: Arc<dyn Provider<T>>,
    changes: broadcast::Sender<T>,
}

impl Entity {
    /// Its identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Adds an attribute.
    ///
    /// # Errors
    /// [`EntityError::Attribute`].
    pub fn add<T: Clone + Send + Sync + 'static>(
        &self,
        name: impl Into<String>,
        provider: Arc<dyn Provider<T>>,
    ) -> Result<(), EntityError> {
        let (changes, _) = broadcast::channel(CHANGES);
        let teller = Changes(changes.clone());
        let attached = Arc::clone(&provider);
        match self.attributes.write().entry(name.into()) {
            Entry::Occupied(taken) => {
                return Err(EntityError::Attribute {
                    entity: self.id.to_string(),
                    attribute: taken.key().clone(),
                });
            }
            Entry::Vacant(free) => {
                free.insert(Arc::new(Attribute { provider, changes }));
            }
        }
        // Outside of the lock: a provider may ask this entity.
        attached.attached(teller);
        Ok(())
    }

    /// The present value of an attribute; `None` for an unknown attribute, or while it has no value.
    ///
    /// # Errors
    /// [`EntityError::WrongType`].
    pub fn value<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Result<Option<T>, EntityError> {
        Ok(self
            .attribute::<T>(name)?
            .and_then(|attribute| attribute.provider.value()))
    }

    /// The changes of an attribute from now on; `None` for an unknown attribute.
    ///
    /// # Errors
    /// [`EntityError::WrongType`].
    pub fn subscribe<T: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Option<Subscription<T>>, EntityError> {
        Ok(self
            .attribute::<T>(name)?
            .map(|attribute| Subscription(attribute.changes.subscribe())))
    }

    fn attribute<T: Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Option<Arc<Attribute<T>>>, EntityError> {
        let found = self.attributes.read().get(name).cloned();
        found
            .map(|attribute| {
                attribute.downcast().map_err(|_| EntityError::WrongType {
                    entity: self.id.to_string(),
                    attribute: name.to_owned(),
                    asked: std::any::type_name::<T>(),
                })
            })
            .transpose()
    }
}

/// A provider of values that are set by hand.
#[derive(Debug, Default)]
pub struct Held<T> {
    state: RwLock<(Option<T>, Option<Changes<T>>)>,
}

impl<T: Clone> Held<T> {
    /// One with a first value, or none.
    pub fn new(value: Option<T>) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new((value, None)),
        })
    }

    /// Sets the value and tells all subscribers of it, in the order of the calls.
    pub fn set(&self, value: T) {
        let mut state = self.state.write();
        state.0 = Some(value.clone());
        if let Some(changes) = &state.1 {
            changes.tell(value);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Provider<T> for Held<T> {
    fn value(&self) -> Option<T> {
        self.state.read().0.clone()
    }

    fn attached(&self, changes: Changes<T>) {
        self.state.write().1 = Some(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// J1.1.
    #[test]
    fn an_entity_is_registered_once() {
        let registry = Registry::new();
        let entity = registry.register("btc-usd").unwrap();
        assert_eq!(entity.id(), "btc-usd");
        let error = registry.register("btc-usd").unwrap_err();
        assert_eq!(error, EntityError::Registered("btc-usd".to_owned()));
        assert!(registry.entity("btc-usd").is_some());
        assert!(registry.entity("eth-usd").is_none());
        assert!(Registry::new().entity("btc-usd").is_none());
    }

    #[test]
    fn attributes_of_any_type_are_added_by_name() {
        struct Counted;
        impl Provider<&'static str> for Counted {
            fn value(&self) -> Option<&'static str> {
                Some("from elsewhere")
            }
            fn attached(&self, _: Changes<&'static str>) {}
        }
        let entity = Registry::new().register("e").unwrap();
        entity.add("price", Held::new(Some(1.5f64))).unwrap();
        entity.add("source", Arc::new(Counted)).unwrap();
        entity.add("empty", Held::<u8>::new(None)).unwrap();
        assert_eq!(entity.value::<f64>("price"), Ok(Some(1.5)));
        assert_eq!(entity.value::<&str>("source"), Ok(Some("from elsewhere")));
        assert_eq!(entity.value::<u8>("empty"), Ok(None));
        assert_eq!(entity.value::<u8>("unknown"), Ok(None));
        assert!(matches!(
            entity.value::<u8>("price"),
            Err(EntityError::WrongType { .. })
        ));
        assert!(matches!(
            entity.add("price", Held::new(Some(1u8))),
            Err(EntityError::Attribute { .. })
        ));
    }

    /// J1.2.
    #[tokio::test]
    async fn a_change_is_told_to_all_subscribers_of_the_attribute() {
        let entity = Registry::new().register("e").unwrap();
        let (price, size) = (Held::new(Some(1)), Held::new(Some(10)));
        entity.add("price", price.clone()).unwrap();
        entity.add("size", size.clone()).unwrap();
        let subscribe = |name| entity.subscribe::<i32>(name).unwrap().unwrap();
        let (mut first, mut second, mut other) = (subscribe("price"), subscribe("price"), subscribe("size"));
        price.set(2);
        price.set(3);
        size.set(11);
        for subscriber in [&mut first, &mut second] {
            assert_eq!(subscriber.next().await, Ok(Some(2)));
            assert_eq!(subscriber.next().await, Ok(Some(3)));
        }
        assert_eq!(other.next().await, Ok(Some(11)));
        assert_eq!(entity.value("price"), Ok(Some(3)));
        assert!(entity.subscribe::<i32>("unknown").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed() {
        let entity = Registry::new().register("e").unwrap();
        let held = Held::new(None);
        entity.add("n", held.clone()).unwrap();
        let mut changes = entity.subscribe::<usize>("n").unwrap().unwrap();
        for number in 0..CHANGES + 5 {
            held.set(number);
        }
        assert_eq!(changes.next().await, Err(Missed(5)));
        assert_eq!(changes.next().await, Ok(Some(5)));
    }
}
