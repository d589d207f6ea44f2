//! `[server]` and `[admin]`: where the router listens, and what it takes from clients.

use std::net::IpAddr;

use crate::config::read::{Reader, Section};
use crate::config::values::addresses_clash;
use crate::config::{Admin, ByteSize, Server, Tls, schema};
use crate::http;

/// A token shorter than this is refused.
const SHORT_TOKEN: usize = 16;

/// Reads both, and checks that they do not get into each other's way.
pub(super) fn read<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<(Server, Admin)> {
    let server = server(reader, top);
    let admin = admin(reader, top);
    let (server, admin) = server.zip(admin)?;
    clashes(reader, top, &server, &admin);
    Some((server, admin))
}

fn server<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<Server> {
    let section = reader.subsection(top, "server", &schema::SERVER);
    let listen = reader.address(&section, "listen");
    let max_body = reader.size(&section, "max_body");
    let max_event = reader.size(&section, "max_event");
    let max_batch_events = reader.count(&section, "max_batch_events");
    let header_timeout = reader.time(&section, "header_timeout");
    let body_timeout = reader.time(&section, "body_timeout");
    let write_timeout = reader.time(&section, "write_timeout");
    let max_connections = reader.count(&section, "max_connections");
    let max_in_flight = reader.size(&section, "max_in_flight");
    let allowed_hosts = allowed_hosts(reader, &section);
    let public_url = reader.url(&section, "public_url");
    let fill_ip = reader.flag(&section, "fill_ip");
    let trusted_proxies = trusted_proxies(reader, &section);
    let tls = tls(reader, &section);
    let drain_timeout = reader.time(&section, "drain_timeout");
    at_most(reader, &section, ("max_event", max_event), ("max_body", max_body));
    at_most(reader, &section, ("max_body", max_body), ("max_in_flight", max_in_flight));
    Some(Server {
        listen: listen?,
        max_body: max_body?,
        max_event: max_event?,
        max_batch_events: max_batch_events?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        write_timeout: write_timeout?,
        max_connections: max_connections?,
        max_in_flight: max_in_flight?,
        allowed_hosts: allowed_hosts?,
        public_url,
        fill_ip: fill_ip?,
        trusted_proxies: trusted_proxies?,
        tls,
        drain_timeout: drain_timeout?,
    })
}

/// One size of a section may not be above another.
fn at_most(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    (small, size): (&str, Option<ByteSize>),
    (large, bound): (&str, Option<ByteSize>),
) {
    let Some((size, bound)) = size.zip(bound).filter(|(size, bound)| size > bound) else { return };
    let message =
        format!("`{}` is {size}, more than `{}`, which is {bound}", section.path(small), section.path(large));
    let at = section.get(small).or(section.get(large)).map_or(section.at, |value| value.span().start);
    reader.error(at, message, format!("raise `{large}` or lower `{small}`"));
}

fn allowed_hosts<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<Vec<String>> {
    let hosts = reader.texts(section, "allowed_hosts")?;
    for (host, at) in &hosts {
        let is_name = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c));
        if !is_name && host.parse::<IpAddr>().is_err() {
            let message =
                format!("`{}` holds \"{host}\", which is no host name", section.path("allowed_hosts"));
            reader.error(*at, message, "write the name alone, without scheme, port and path");
        }
    }
    Some(hosts.into_iter().map(|(host, _)| host.to_lowercase()).collect())
}

fn trusted_proxies<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<Vec<IpAddr>> {
    let proxies = reader.texts(section, "trusted_proxies")?;
    let mut trusted = Vec::with_capacity(proxies.len());
    for (proxy, at) in proxies {
        match proxy.parse() {
            Ok(address) => trusted.push(address),
            Err(_) => {
                let message = format!("`server.trusted_proxies` holds \"{proxy}\", which is no IP address");
                reader.error(at, message, "write each proxy's address, such as \"10.0.0.5\"");
            }
        }
    }
    Some(trusted)
}

fn tls<'a>(reader: &mut Reader<'a>, server: &Section<'a>) -> Option<Tls> {
    server.get("tls")?;
    let section = reader.subsection(server, "tls", &schema::TLS);
    let listen = reader.address(&section, "listen");
    let certificate = reader.file(&section, "certificate");
    let key = reader.file(&section, "key");
    let ((certificate, chain), (key, key_text)) = certificate.zip(key)?;
    if let Err(error) = http::check_certificate(chain.as_bytes(), key_text.as_bytes()) {
        let place = match error.part {
            http::Part::Certificate => "certificate",
            http::Part::Key => "key",
        };
        reader.error(section.place(place), format!("`server.tls.{place}`: {}", error.message), error.remedy);
    }
    Some(Tls { listen: listen?, certificate, key })
}

fn admin<'a>(reader: &mut Reader<'a>, top: &Section<'a>) -> Option<Admin> {
    let section = reader.subsection(top, "admin", &schema::ADMIN);
    let listen = reader.address(&section, "listen");
    let token = reader.secret(&section, "token");
    let allowed_hosts = allowed_hosts(reader, &section);
    if token.as_ref().is_some_and(|token| token.expose().len() < SHORT_TOKEN) {
        let message = format!("`admin.token` is shorter than {SHORT_TOKEN} characters");
        let remedy = "use a long random one, such as from `openssl rand -hex 32`";
        reader.error(section.place("token"), message, remedy);
    }
    let listen = listen?;
    if !listen.ip().is_loopback() && section.get("token").is_none() {
        let message = format!(
            "`admin.token` is missing, and `admin.listen` is {listen}, which is not a loopback address"
        );
        let remedy = "set `token` to a long random text, or listen on 127.0.0.1";
        reader.error(section.place("listen"), message, remedy);
    }
    Some(Admin { listen, token, allowed_hosts: allowed_hosts? })
}

/// Two listeners cannot have one port.
fn clashes(reader: &mut Reader<'_>, top: &Section<'_>, server: &Server, admin: &Admin) {
    let tls = server.tls.as_ref().map(|tls| ("server.tls", tls.listen));
    let listeners = [Some(("server", server.listen)), tls, Some(("admin", admin.listen))];
    let listeners: Vec<_> = listeners.into_iter().flatten().collect();
    for (position, (name, address)) in listeners.iter().enumerate() {
        for (other, taken) in listeners.iter().take(position) {
            if addresses_clash(*address, *taken) {
                let message =
                    format!("`{name}.listen` is {address}, which clashes with `{other}.listen`, {taken}");
                let at = top.find(name, "listen").or_else(|| top.find(other, "listen")).unwrap_or(top.at);
                reader.error(at, message, "use another port for one of them");
            }
        }
    }
}
