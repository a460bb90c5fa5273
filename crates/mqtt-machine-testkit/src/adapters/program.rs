//! Owns one program that is compiled for every adapter: only its `use` line and its awaits differ. It must not know any runtime.

/// Makes a `#[test]` of one program over an adapter's own names, which proves that they are the same in each:
/// `same_program!(async mqtt_machine_mine, block_on)`, or without `async` and `block_on` for an adapter whose calls block.
#[macro_export]
macro_rules! same_program {
    (async $adapter:ident, $block_on:expr) => {
        $crate::__same_program!($adapter [async] [.await] [.await]);

        #[test]
        fn a_change_of_the_runtime_changes_one_use_line_and_the_awaits() {
            let broker = $crate::adapters::own_broker();
            let ended = $block_on(program(&broker.url()));
            assert!(ended.is_ok(), "{ended:?}");
        }
    };
    ($adapter:ident) => {
        // A delivery is waited for with an end.
        $crate::__same_program!($adapter [] [] [.wait(::std::time::Duration::MAX).map_err(|_| "no outcome")?]);

        #[test]
        fn a_change_of_the_runtime_changes_one_use_line_and_the_awaits() {
            let broker = $crate::adapters::own_broker();
            let ended = program(&broker.url());
            assert!(ended.is_ok(), "{ended:?}");
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __same_program {
    ($adapter:ident [$($async:tt)*] [$($wait:tt)*] [$($outcome:tt)*]) => {
        use $adapter as adapter;

        $($async)* fn program(url: &str) -> Result<(), Box<dyn ::std::error::Error>> {
            use ::std::ops::ControlFlow;
            use adapter::{
                Client, ClientEvent, CommandError, Disconnect, Message, Options, Outcome, QoS, Subscribe,
                TopicFilter, publish_multiple, publish_single, subscribe_callback, subscribe_simple,
            };

            let options = Options::from_url(url)?.configure(|config| config.client_id("program"));
            let client = Client::connect(options)$($wait)*?;
            let mut events = client.events();
            let mut messages = client.subscribe("same/#", QoS::ExactlyOnce)$($wait)*?;
            let granted = client.subscribe_with(Subscribe::to(TopicFilter::new("other")?, QoS::AtLeastOnce))$($wait)*?;
            for (qos, text) in [(QoS::AtMostOnce, "0"), (QoS::AtLeastOnce, "1"), (QoS::ExactlyOnce, "2")] {
                let delivery = client.publish(Message::to("same/program", text)?.qos(qos))$($wait)*?;
                let outcome = delivery$($outcome)*;
                assert!(matches!(outcome, Outcome::Sent | Outcome::Acknowledged(_)), "{outcome:?}");
                let message = messages.recv()$($wait)*.ok_or("the stream has ended")?;
                assert_eq!((message.payload_lossy(), message.qos), (text.to_owned(), qos));
            }
            client.reconnect()?;
            let event = events.recv()$($wait)*;
            assert!(matches!(event, Some(ClientEvent::Disconnected { .. })), "{event:?}");
            client.connected()$($wait)*?;

            let kept = Message::to("kept", "kept")?.qos(QoS::AtLeastOnce).retain(true);
            let outcome = publish_single(url, kept.clone())$($wait)*?;
            assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
            let outcomes = publish_multiple(url, [Message::to("same/a", "a")?, Message::to("same/b", "b")?])$($wait)*?;
            assert_eq!(outcomes, [Outcome::Sent, Outcome::Sent]);
            let taken = subscribe_simple(url, ["kept"], QoS::AtLeastOnce, 1)$($wait)*?;
            assert_eq!(taken.iter().map(Message::payload_lossy).collect::<Vec<_>>(), ["kept"]);
            let mut called = 0;
            subscribe_callback(url, ["kept"], QoS::AtLeastOnce, |_| {
                called += 1;
                ControlFlow::Break(())
            })$($wait)*?;
            assert_eq!(called, 1);
            for text in ["a", "b"] {
                let message = messages.recv()$($wait)*.ok_or("the stream has ended")?;
                assert_eq!(message.payload_lossy(), text);
            }

            assert_eq!(messages.unsubscribe()$($wait)*?.codes.len(), 1);
            assert_eq!(granted.unsubscribe()$($wait)*?.codes.len(), 1);
            assert!(client.drain(::std::time::Duration::from_secs(5))$($wait)*?.is_complete());
            let late = client.publish(Message::to("same/program", "late")?)$($wait)*;
            assert!(matches!(late, Err(CommandError::Closed)), "{late:?}");
            let again = client.disconnect()$($wait)*;
            assert!(matches!(again, Err(CommandError::Closed)), "{again:?}");
            Ok(())
        }
    };
}
