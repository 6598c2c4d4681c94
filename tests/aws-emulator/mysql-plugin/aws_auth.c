/* AWSAuthenticationPlugin, as Aurora MySQL shows it in a login: inside TLS it asks the client for mysql_clear_password. Whether
   user and token are good decides the login gate of this folder's emulator, which listens on the Unix socket that the variable
   AWS_EMULATOR_GATE names.

   One shared object serves two engines: MySQL reads the symbols _mysql_*, MariaDB the symbols _maria_*. Neither engine's server
   headers are in a Debian package, so this file declares the parts of the plugin interface that it uses. Sources:
   include/mysql/plugin.h, plugin_auth.h and plugin_auth_common.h of MySQL 9 and of MariaDB 10.11. The engines compare the
   numbers of versions and sizes at the end of this file and refuse a plugin that does not fit. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { AUTHENTICATION_PLUGIN = 7, LICENSE_BSD = 2, MATURITY_STABLE = 5 };

/* What authenticate_user returns. */
enum { CR_OK = -1, CR_ERROR = 0 };

struct vio_info {
  int protocol;
  int socket;
  /* Written by MySQL 9 only. */
  _Bool is_tls_established;
  char room[64];
};

struct vio {
  /* The length of the packet, or -1. The first call sends the AuthSwitchRequest. */
  int (*read_packet)(struct vio *vio, unsigned char **packet);
  int (*write_packet)(struct vio *vio, const unsigned char *packet, int length);
  void (*info)(struct vio *vio, struct vio_info *info);
};

/* The first fields; those that follow differ between the engines. */
struct auth_info {
  const char *user_name;
  unsigned int user_name_length;
};

static int send_all(int socket, const void *bytes, size_t length) {
  const char *rest = bytes;
  while (length > 0) {
    ssize_t sent = send(socket, rest, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return -1;
    rest += sent;
    length -= (size_t)sent;
  }
  return 0;
}

static int send_string(int socket, const void *bytes, uint32_t length) {
  unsigned char size[4] = {length >> 24, length >> 16 & 0xff, length >> 8 & 0xff, length & 0xff};
  return send_all(socket, size, sizeof size) == 0 ? send_all(socket, bytes, length) : -1;
}

/* Asks the gate. The answer begins with + for yes; anything else is no, and the rest is the reason. */
static void ask_gate(const struct auth_info *who, const void *token, uint32_t length, char *answer, size_t room) {
  const char *path = getenv("AWS_EMULATOR_GATE");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t read = 0;
  int gate = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(answer, room, "-the login gate does not answer");
  if (gate < 0) return;
  if (path && strlen(path) < sizeof address.sun_path) {
    strcpy(address.sun_path, path);
    if (connect(gate, (struct sockaddr *)&address, sizeof address) == 0 &&
        send_string(gate, who->user_name, who->user_name_length) == 0 && send_string(gate, token, length) == 0) {
      while (read < room - 1) {
        ssize_t got = recv(gate, answer + read, room - 1 - read, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        read += (size_t)got;
      }
      if (read > 0) answer[read] = 0;
    }
  }
  close(gate);
}

static int authenticate(struct vio *vio, struct auth_info *who) {
  unsigned char *token;
  char answer[512];
  int length = vio->read_packet(vio, &token);
  if (length < 0) return CR_ERROR;
  /* mysql_clear_password ends the password with a zero byte; some clients leave it out. */
  if (length > 0 && token[length - 1] == 0) length--;
  ask_gate(who, token, (uint32_t)length, answer, sizeof answer);
  if (answer[0] == '+') return CR_OK;
  /* Standard error is the server's error log, where Aurora writes its reason, too. */
  dprintf(2, "[AWSAuthenticationPlugin] refused '%.*s': %s\n", (int)who->user_name_length, who->user_name, answer + 1);
  return CR_ERROR;
}

/* MySQL tells a plugin of TLS, so that nothing is asked without it. */
static int authenticate_inside_tls(struct vio *vio, struct auth_info *who) {
  struct vio_info info = {0};
  vio->info(vio, &info);
  return info.is_tls_established ? authenticate(vio, who) : CR_ERROR;
}

/* CREATE USER ... BY '...' has no meaning here: 1 refuses it. */
static int no_password(char *out, unsigned int *out_length, const char *password, unsigned int length) {
  (void)out, (void)out_length, (void)password, (void)length;
  return 1;
}

/* CREATE USER ... AS 'RDS' is the form that Aurora takes. */
static int only_rds(char *const text, unsigned int length) { return !(length == 3 && memcmp(text, "RDS", 3) == 0); }

static int no_salt(const char *text, unsigned int length, unsigned char *salt, unsigned char *salt_length) {
  (void)text, (void)length, (void)salt;
  *salt_length = 0;
  return 0;
}

static struct {
  int interface_version;
  const char *client_plugin;
  int (*authenticate_user)(struct vio *, struct auth_info *);
  int (*generate_authentication_string)(char *, unsigned int *, const char *, unsigned int);
  int (*validate_authentication_string)(char *const, unsigned int);
  int (*set_salt)(const char *, unsigned int, unsigned char *, unsigned char *);
  const unsigned long authentication_flags;
  int (*compare_password_with_hash)(const char *, unsigned long, const char *, unsigned long, int *);
} mysql_authentication = {0x0201, "mysql_clear_password", authenticate_inside_tls, no_password, only_rds, no_salt, 0, NULL};

static struct {
  int interface_version;
  const char *client_plugin;
  int (*authenticate_user)(struct vio *, struct auth_info *);
  int (*hash_password)(const char *, size_t, char *, size_t *);
  int (*preprocess_hash)(const char *, size_t, unsigned char *, size_t *);
} maria_authentication = {0x0202, "mysql_clear_password", authenticate, NULL, NULL};

#define NAME "AWSAuthenticationPlugin"
#define AUTHOR "pgpassport's tests"
#define DESCRIPTION "asks a stand-in for IAM whether a token is good"

struct mysql_plugin {
  int type;
  void *info;
  const char *name, *author, *description;
  int license;
  int (*init)(void *), (*check_uninstall)(void *), (*deinit)(void *);
  unsigned int version;
  void *status_variables, *system_variables, *reserved;
  unsigned long flags;
} _mysql_plugin_declarations_[] = {
    {.type = AUTHENTICATION_PLUGIN, .info = &mysql_authentication, .name = NAME, .author = AUTHOR,
     .description = DESCRIPTION, .license = LICENSE_BSD, .version = 0x0100},
    {0},
};
int _mysql_plugin_interface_version_ = 0x010b;
int _mysql_sizeof_struct_st_plugin_ = sizeof(struct mysql_plugin);

struct maria_plugin {
  int type;
  void *info;
  const char *name, *author, *description;
  int license;
  int (*init)(void *), (*deinit)(void *);
  unsigned int version;
  void *status_variables, *system_variables;
  const char *version_text;
  unsigned int maturity;
} _maria_plugin_declarations_[] = {
    {.type = AUTHENTICATION_PLUGIN, .info = &maria_authentication, .name = NAME, .author = AUTHOR,
     .description = DESCRIPTION, .license = LICENSE_BSD, .version = 0x0100, .version_text = "1.0",
     .maturity = MATURITY_STABLE},
    {0},
};
int _maria_plugin_interface_version_ = 0x010f;
int _maria_sizeof_struct_st_plugin_ = sizeof(struct maria_plugin);
