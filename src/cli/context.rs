//! What every command has at hand: settings, streams, and whoever answers requests.

use std::sync::Arc;

use axum::http::Method;
use tokio::sync::watch;

use super::client::{self, Answer, Api, Call, encode, encode_key};
use super::connect;
use super::console::Console;
use super::failure::{Exit, Failure};
use super::local::Host;
use super::settings::Settings;
use kdelta::engine::base::Key;

/// One command's surroundings.
pub(crate) struct Context<'a> {
    /// The machine.
    pub(crate) host: &'a dyn Host,
    /// What was set by whom.
    pub(crate) settings: Settings,
    /// The streams.
    pub(crate) console: &'a mut Console,
    /// Prints JSON.
    pub(crate) json: bool,
    /// Asks no question where a command would ask one.
    pub(crate) yes: bool,
    /// The exit status that a signal asks for.
    pub(crate) signals: watch::Receiver<Option<Exit>>,
    api: Option<Arc<dyn Api>>,
}

impl<'a> Context<'a> {
    /// Connects to nobody yet.
    pub(crate) fn new(
        host: &'a dyn Host,
        settings: Settings,
        console: &'a mut Console,
        json: bool,
        signals: watch::Receiver<Option<Exit>>,
    ) -> Self {
        Self { host, settings, console, json, yes: false, signals, api: None }
    }

    /// Returns who answers, found or opened on first use.
    pub(crate) async fn api(&mut self) -> Result<Arc<dyn Api>, Failure> {
        if let Some(api) = &self.api {
            return Ok(Arc::clone(api));
        }
        let api: Arc<dyn Api> = connect::connect(self.host, &self.settings).await?.into();
        self.api = Some(Arc::clone(&api));
        Ok(api)
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn call(&mut self, call: Call) -> Result<Answer, Failure> {
        let api = self.api().await?;
        client::call(&*api, call).await
    }

    /// Closes a store that was opened here.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        match self.api.take() {
            Some(api) => api.close().await,
            None => Ok(()),
        }
    }

    /// Starts a request to a route of the space in use.
    pub(crate) fn in_space(&self, method: Method, route: &str) -> Call {
        let space = encode(&self.settings.space.value, |_| false);
        Call::new(method, format!("/v1/spaces/{space}/{route}"))
    }

    /// Starts a request about `key` in the space in use.
    ///
    /// # Errors
    /// A usage failure if `key` is none.
    pub(crate) fn on_key(&self, method: Method, route: &str, key: &str) -> Result<Call, Failure> {
        let key = checked(key)?;
        Ok(self.in_space(method, &format!("{route}/{}", encode_key(key))))
    }

    /// Prints the JSON of an answer.
    pub(crate) fn print(&mut self, answer: &Answer) -> Result<Exit, Failure> {
        self.console.line(&answer.text)?;
        Ok(Exit::Ok)
    }
}

/// Checks that `key` can name something.
///
/// # Errors
/// A usage failure that says what is wrong with it.
pub(crate) fn checked(key: &str) -> Result<&str, Failure> {
    match Key::new(key) {
        Ok(_) => Ok(key),
        Err(error) => Err(Failure::usage(error.to_string())
            .hint("A key is 1 to 1024 bytes of UTF-8 text, such as user/1")),
    }
}
