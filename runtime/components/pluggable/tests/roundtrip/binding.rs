//! Bindings over the socket.

use super::*;

/// Answers what it is given, and brings an event for each invocation.
#[derive(Debug, Default)]
struct Echo {
    asked: Arc<Notify>,
    answers: Mutex<Vec<Result<Bytes, String>>>,
}

impl OutputBinding for Echo {
    fn operations(&self) -> Vec<&str> {
        vec!["create", "get"]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        match request.operation.as_str() {
            "create" => {
                self.asked.notify_one();
                Ok(Some(InvokeResponse {
                    data: Some(request.data),
                    metadata: request.metadata,
                    content_type: Some("text/plain".to_owned()),
                }))
            }
            "get" => {
                let answers = self.answers.lock().unwrap();
                let text = format!("{answers:?}");
                Ok(Some(InvokeResponse {
                    data: Some(text.into()),
                    ..InvokeResponse::default()
                }))
            }
            other => Err(Error::unsupported(format!("no operation {other}")).into()),
        }
    }
}

struct Stop(tokio::task::JoinHandle<()>);

impl Reading for Stop {
    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.abort();
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug)]
struct EchoInput(Arc<Echo>);

impl InputBinding for EchoInput {
    async fn read(&self, handler: Arc<dyn EventHandler>) -> Result<Box<dyn Reading>, Error> {
        let echo = Arc::clone(&self.0);
        Ok(Box::new(Stop(tokio::spawn(async move {
            loop {
                echo.asked.notified().await;
                let event = Event {
                    data: "ping".into(),
                    ..Event::default()
                };
                let answer = handler.handle(event).await;
                let answer = answer
                    .map(Option::unwrap_or_default)
                    .map_err(|error| error.chain());
                echo.answers.lock().unwrap().push(answer);
            }
        }))))
    }
}

fn echo(_spec: &Spec) -> Result<Open<Binding>, Error> {
    Ok(open_with(async |_host| {
        let echo = Arc::new(Echo::default());
        let output = Echo {
            asked: Arc::clone(&echo.asked),
            ..Echo::default()
        };
        Ok(Arc::new(Binding {
            input: Some(Arc::new(EchoInput(echo))),
            output: Some(Arc::new(output)),
        }))
    }))
}

struct App(Arc<Notes>);

impl EventHandler for App {
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            self.0.note(&event.data);
            Ok(Some("pong".into()))
        })
    }
}

#[tokio::test]
async fn a_binding_works_over_the_socket() {
    let folder = Folder::new();
    let registration = Registration {
        type_names: &["bindings.echo"],
        versions: &["v1"],
        validate: echo,
    };
    let _process = Process::start(
        &folder.socket("echo"),
        Offer::Bindings {
            registration,
            input: true,
            output: true,
        },
    );
    let found = discover(folder.0.path()).await;
    assert!(
        found.state(&spec("state.echo", &[])).is_none(),
        "another block's type"
    );
    let open = found
        .binding(&spec("bindings.echo", &[]))
        .expect("the type is found");
    let binding = open.run(host()).await.unwrap();
    let (input, output) = (binding.input.clone().unwrap(), binding.output.clone().unwrap());
    assert_eq!(output.operations(), ["create", "get"]);
    let notes = Arc::new(Notes::default());
    let reading = input.read(Arc::new(App(Arc::clone(&notes)))).await.unwrap();
    let answer = output
        .invoke(InvokeRequest {
            data: "hello".into(),
            operation: "create".to_owned(),
            metadata: Metadata::from([("a".to_owned(), "b".to_owned())]),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.data.as_deref(), Some(&b"hello"[..]));
    assert_eq!(answer.metadata["a"], "b");
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    notes.wait_for("ping").await;
    reading.close().await;
    let unknown = InvokeRequest {
        operation: "absent".to_owned(),
        ..InvokeRequest::default()
    };
    // The status is kept, and trying again is left to policies, as upstream does.
    let refused = output.invoke(unknown.clone()).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Status(12));
    output.close().await.unwrap();
    let closed = output.invoke(unknown).await.unwrap_err();
    assert_eq!(closed.error.kind(), ErrorKind::Closed);
}
