//! `nameresolution.nameformat`: an address made of the app id by a pattern (components-contrib
//! `nameresolution/nameformat`).

use std::sync::Arc;

use outrigger_component::{Error, Open, Properties, Registration, Spec, open_with};
use outrigger_name_resolution::{Addresses, DynResolver, Instance, Resolver, Target};

const PLACEHOLDER: &str = "{appid}";

/// How `nameresolution.nameformat` is built.
pub const NAME_FORMAT: Registration<dyn DynResolver> = Registration {
    type_names: &["nameresolution.nameformat"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    let resolver = NameFormat::parse(&spec.properties)?;
    Ok(open_with(async move |_host| {
        Ok(Arc::new(resolver) as Arc<dyn DynResolver>)
    }))
}

/// Puts the app id into a pattern. Knows nothing of who is there, and announces nobody.
#[derive(Debug, Clone)]
pub struct NameFormat {
    format: String,
}

impl NameFormat {
    /// Reads the property `format`.
    ///
    /// # Errors
    /// When it is missing or has no place for the app id.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let format = properties
            .non_empty("format")
            .ok_or_else(|| Error::configuration("format is required in metadata"))?;
        if !format.contains(PLACEHOLDER) {
            return Err(Error::configuration("format must contain {appid} placeholder"));
        }
        Ok(Self {
            format: format.to_owned(),
        })
    }
}

impl Resolver for NameFormat {
    async fn register(&self, _instance: Instance) -> Result<(), Error> {
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let id = target.app_id.as_str();
        if id.is_empty() {
            return Err(Error::invalid("empty ID not allowed"));
        }
        Ok(vec![self.format.replace(PLACEHOLDER, id)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<NameFormat, Error> {
        NameFormat::parse(&Properties::from_pairs(pairs.iter().copied()))
    }

    #[tokio::test]
    async fn the_app_id_is_put_into_the_pattern() {
        let resolver = parse(&[("format", "{appid}-dapr.{appid}.example:50002")]).unwrap();
        let mut target = Target {
            app_id: "orders".into(),
            namespace: "default".into(),
            port: 1,
        };
        let found = Resolver::resolve(&resolver, &target).await.unwrap();
        assert_eq!(found, ["orders-dapr.orders.example:50002"]);
        target.app_id = "".into();
        let error = Resolver::resolve(&resolver, &target).await.unwrap_err();
        assert_eq!(error.to_string(), "empty ID not allowed");
    }

    #[test]
    fn a_pattern_must_have_a_place_for_it() {
        assert_eq!(
            parse(&[]).unwrap_err().to_string(),
            "format is required in metadata"
        );
        let error = parse(&[("Format", "host:1")]).unwrap_err();
        assert_eq!(error.to_string(), "format must contain {appid} placeholder");
    }
}
