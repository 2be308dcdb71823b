#include "tools/ctl/brick_spec.h"

#include <gtest/gtest.h>

namespace voldfs::ctl {
namespace {

TEST(BrickSpec_Parse, WellFormed_Taken) {
  struct Case {
    const char* text;
    const char* host;
    const char* path;
    uint16_t port;
  };
  for (const Case& c : {Case{"a:/b", "a", "/b", 0}, Case{"127.0.0.2:/srv/brick:24500", "127.0.0.2", "/srv/brick", 24500},
                        Case{"[::1]:/b", "::1", "/b", 0}, Case{"[fe80::1%eth0]:/b:1", "fe80::1%eth0", "/b", 1},
                        Case{"a:/b/", "a", "/b", 0}, Case{"a:///b", "a", "/b", 0}, Case{"a:/x//y/../b", "a", "/x/b", 0},
                        Case{"a:/b:c", "a", "/b:c", 0}, Case{"a:/b:c:65535", "a", "/b:c", 65535}}) {
    const auto spec = parse_brick_spec(c.text);
    ASSERT_TRUE(spec) << spec.error();
    EXPECT_EQ(spec->host, c.host) << c.text;
    EXPECT_EQ(spec->path, c.path) << c.text;
    EXPECT_EQ(spec->port, c.port) << c.text;
  }
}

TEST(BrickSpec_Parse, Malformed_Refused) {
  for (const char* text : {"", "a", "/b", ":/b", "a:", "a:b", "a:/", "a:///", "a:/..", "a:/b:0", "a:/b:65536",
                           "a:/b:99999999999", "[::1]/b", "[::1:/b", "[]:/b", "a:24200"}) {
    EXPECT_FALSE(parse_brick_spec(text)) << text;
  }
}

TEST(BrickSpec_HostPort, Parse) {
  EXPECT_EQ(parse_host_port("127.0.0.2:24200")->port, 24200);
  EXPECT_EQ(parse_host_port("[::1]:1")->host, "::1");
  for (const char* text : {"", "a", "a:", ":1", "a:0", "a:x", "a:1 ", "::1:1", "a:-1"}) EXPECT_FALSE(parse_host_port(text)) << text;
}

TEST(BrickSpec_Resolve, Literals_Themselves) {
  EXPECT_EQ(*resolve("127.0.0.3"), "127.0.0.3");
  EXPECT_EQ(*resolve("::1"), "::1");
}

}  // namespace
}  // namespace voldfs::ctl
