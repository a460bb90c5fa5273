//! Shows: a handler of commands that answers, and one who asks, over 5.0 or 3.1.1.
//! `cargo run -p mqtt-machine-examples --example commands -- mqtt://localhost serve` and `… ask add '2 3'`.

use std::error::Error;

use mqtt_machine_tokio::{Client, Message, QoS, Subscribe, request_filters, requested_topic, response_to};

/// What a command of this name makes of its arguments.
fn carry_out(name: &str, arguments: &str) -> Result<String, String> {
    let numbers: Result<Vec<i64>, _> = arguments.split_whitespace().map(str::parse).collect();
    let numbers = numbers.map_err(|error| error.to_string())?;
    match name {
        "add" => {
            numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(*number)).map(|sum| sum.to_string())
        }
        "count" => Some(numbers.len().to_string()),
        _ => return Err(format!("there is no command {name}")),
    }
    .ok_or_else(|| "too large".to_owned())
}

async fn serve(client: &Client) -> Result<(), Box<dyn Error>> {
    let filters = request_filters(&"commands/+".parse()?)?;
    let mut requests = client.subscribe_with(Subscribe::to_all(filters, QoS::AtLeastOnce)).await?;
    println!("serving");
    while let Some(request) = requests.recv().await {
        let name = requested_topic(&request).trim_start_matches("commands/");
        let answer =
            carry_out(name, &request.payload_lossy()).unwrap_or_else(|error| format!("error: {error}"));
        match response_to(&request, answer) {
            Ok(response) => drop(client.publish(response).await?),
            Err(error) => eprintln!("{}: {error}", request.topic),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [url, "serve"] => serve(&Client::connect(*url).await?).await,
        [url, "ask", name, arguments] => {
            let client = Client::connect(*url).await?;
            let question = Message::to(&format!("commands/{name}"), (*arguments).to_owned())?;
            let answer = client.requester().request(question.qos(QoS::AtLeastOnce)).await?;
            println!("{}", answer.payload_lossy());
            client.disconnect().await?;
            Ok(())
        }
        _ => Err("arguments: URL serve, or URL ask COMMAND ARGUMENTS".into()),
    }
}
