//! Tags of connections and of workers: the same calls of two services, whose stubs are two types.

pub(crate) use outrigger_platform_wire::virtufin::{
    GetTagRequest, GetTagsRequest, SetTagRequest, SetTagsRequest,
};

/// Adds the calls to a client that has a `link` and a `stub`; the text says what of.
macro_rules! tags {
    ($client:ident, $what:literal) => {
        impl $client {
            /// Sets a tag; an empty value removes it.
            ///
            /// # Errors
            /// [`Error::NotFound`], [`Error::InvalidArgument`], else the status of the service.
            pub async fn set_tag(
                &self,
                id: impl Into<String>,
                key: impl Into<String>,
                value: impl Into<String>,
            ) -> Result<(), Error> {
                let request = $crate::tags::SetTagRequest {
                    id: id.into(),
                    key: key.into(),
                    value: value.into(),
                };
                self.link.unary(self.stub().set_tag(request)).await.map(drop)
            }

            /// The value of a tag, if there is one.
            ///
            /// # Errors
            #[doc = concat!("[`Error::NotFound`] for an unknown ", $what, ", else the status of the service.")]
            pub async fn get_tag(
                &self,
                id: impl Into<String>,
                key: impl Into<String>,
            ) -> Result<Option<String>, Error> {
                let request = $crate::tags::GetTagRequest {
                    id: id.into(),
                    key: key.into(),
                };
                let answer = self.link.unary(self.stub().get_tag(request)).await?;
                Ok(answer.found.then_some(answer.value))
            }

            /// Replaces all tags.
            ///
            /// # Errors
            /// [`Error::NotFound`], [`Error::InvalidArgument`], else the status of the service.
            pub async fn set_tags(&self, id: impl Into<String>, tags: BTreeMap<String, String>) -> Result<(), Error> {
                let request = $crate::tags::SetTagsRequest { id: id.into(), tags };
                self.link.unary(self.stub().set_tags(request)).await.map(drop)
            }

            /// All tags.
            ///
            /// # Errors
            /// [`Error::NotFound`], else the status of the service.
            pub async fn get_tags(&self, id: impl Into<String>) -> Result<BTreeMap<String, String>, Error> {
                let request = $crate::tags::GetTagsRequest { id: id.into() };
                Ok(self.link.unary(self.stub().get_tags(request)).await?.tags)
            }
        }
    };
}

pub(crate) use tags;
