//! The same as `run_code_axum` on actix-web.
//!
//! `cargo run --release --features actix-web --example run_code_actix`

use std::time::Duration;

use actix_web::error::{Error, ErrorUnprocessableEntity};
use actix_web::web::{Bytes, Data, post};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::{StreamExt, stream};
use orangery::{ContainerHandle, Sandbox, Supervisor};

async fn run(supervisor: Data<Supervisor>, source: Bytes) -> Result<HttpResponse, Error> {
    let sandbox = Sandbox::builder().file("/in/main.sh", source).wall(Duration::from_secs(10)).build();
    let sandbox = sandbox.map_err(ErrorUnprocessableEntity)?;
    let command = supervisor.command("sh").arg("/in/main.sh").sandbox(&sandbox);
    let container = command.spawn().await.map_err(ErrorUnprocessableEntity)?;
    let output = container.output().bytes().lossy().map(|chunk| chunk.map_err(std::io::Error::from));
    Ok(HttpResponse::Ok().streaming(output.chain(stream::once(report(container)))))
}

async fn report(container: ContainerHandle) -> std::io::Result<Bytes> {
    let report = container.wait().await.map_err(std::io::Error::other)?;
    Ok(format!("{}\n", serde_json::to_string(&*report)?).into())
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let data = Data::new(supervisor.clone());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let server = HttpServer::new(move || App::new().app_data(data.clone()).route("/", post().to(run)));
    let server = server.workers(1).bind(address)?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    server.run().await?;
    supervisor.shutdown().await;
    Ok(())
}
