# Mojolicious in both roles. What it does is described in programs.py and interop/conversations.py.
use Mojo::Base -strict;
use Mojo::Server::Daemon;
use Mojo::IOLoop;
use Mojo::JSON qw(decode_json encode_json);
use Mojo::URL;
use Mojo::UserAgent;
use Mojo::Util qw(encode);
use Mojo::WebSocket qw(WS_CONTINUATION WS_PING WS_PONG WS_TEXT);

my $settings = decode_json $ARGV[0];
$| = 1;

sub report { say encode_json shift }

sub converse {
  my ($peer, $path) = @_;
  my (undef, $action, $code) = split m{/}, $path;
  $peer->max_websocket_size(1 << 24);
  $peer->on(text   => sub { $_[0]->send({text   => $_[1]}) });
  $peer->on(binary => sub { $_[0]->send({binary => $_[1]}) });
  $peer->on(finish => sub { report {code => $_[1], reason => $_[2] // ''} });
  $peer->on(
    frame => sub {
      my ($op, $payload) = @{$_[1]}[4, 5];
      $_[0]->send('pong') if $action eq 'ping' && $op == WS_PONG && $payload eq $settings->{beat};
    }
  );
  my $ping = [1, 0, 0, 0, WS_PING, $settings->{beat}];
  if    ($action eq 'subprotocol') { $peer->send($peer->protocol // '') }
  elsif ($action eq 'ping')        { $peer->send($ping) }
  elsif ($action eq 'leave')       { $peer->finish($code, $settings->{reason}) }
  elsif ($action eq 'fragments') {
    my @parts = @{$settings->{text}};
    for my $index (0 .. $#parts) {
      my $op = $index ? WS_CONTINUATION : WS_TEXT;
      $peer->send([$index == $#parts ? 1 : 0, 0, 0, 0, $op, encode 'UTF-8', $parts[$index]]);
      $peer->send($ping) if $index == 0;
    }
  }
}

if (my $url = $settings->{url}) {
  say 'null';
  my $agent   = Mojo::UserAgent->new;
  my $headers = $settings->{compression} ? {'Sec-WebSocket-Extensions' => 'permessage-deflate'} : {};
  $agent->websocket(
    $url => $headers => $settings->{subprotocols} => sub {
      my ($agent, $peer) = @_;
      die 'no WebSocket' unless $peer->is_websocket;
      converse $peer, Mojo::URL->new($url)->path;
      Mojo::IOLoop->stream($peer->connection)->on(close => sub { Mojo::IOLoop->stop });
    }
  );
  Mojo::IOLoop->start;
}
else {
  my $daemon = Mojo::Server::Daemon->new(listen => ['http://127.0.0.1:0'], silent => 1);
  $daemon->unsubscribe('request')->on(
    request => sub {
      my ($daemon, $exchange) = @_;
      my ($path, $answer) = ($exchange->req->url->path, $exchange->res);
      if ($path eq '/unauthorized') { $answer->code(401)->body($settings->{unauthorized}) }
      elsif ($path eq '/busy') { $answer->code(503)->headers->header('Retry-After' => $settings->{retryAfter}) }
      else {
        my $offered = $exchange->req->headers->sec_websocket_protocol // '';
        $answer->headers->sec_websocket_protocol($settings->{subprotocol})
          if grep { $_ eq $settings->{subprotocol} } split /,\s*/, $offered;
        $exchange->with_compression if $settings->{compression};
        $answer->code(101);
        converse $exchange, $path;
      }
      $exchange->resume;
    }
  );
  $daemon->start;
  say $daemon->ports->[0];
  Mojo::IOLoop->start;
}
