variable "name" {
  description = "Name of the service and prefix of everything else. At most 20 characters."
  type        = string
  default     = "pgpassport"

  validation {
    condition     = length(var.name) <= 20
    error_message = "A target group's name has at most 32 characters."
  }
}

variable "image" {
  description = "Image of pgpassport, in a registry that the execution role can read."
  type        = string
}

variable "config" {
  description = "The [[issuer]] and [[cluster]] tables of proxy.toml, as text. The module writes [listen], [limits], [admin], [log], and [cancel]."
  type        = string
}

variable "certificate_secret_arn" {
  description = "Secret with the certificate chain that clients verify, PEM."
  type        = string
}

variable "private_key_secret_arn" {
  description = "Secret with the private key of the certificate, PEM."
  type        = string
}

variable "cancel_secret_arn" {
  description = "Secret with at least 32 random bytes in base64, which all tasks share."
  type        = string
}

variable "secrets_kms_key_arn" {
  description = "KMS key of the secrets, if it is not the account's aws/secretsmanager."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "VPC of the tasks and the load balancer."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones, with a path to the issuer and to STS."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Name subnets in at least two zones."
  }
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer. The proxy accepts PROXY headers from them only."
  type        = list(string)
}

variable "internal" {
  description = "Whether the load balancer has private addresses only."
  type        = bool
  default     = true
}

variable "client_cidrs" {
  description = "Networks of the clients."
  type        = list(string)
}

variable "database_security_group_id" {
  description = "Security group of the database, which then admits the tasks. Without it, admit the output security_group_id yourself."
  type        = string
  default     = null
}

variable "metrics_security_group_id" {
  description = "Security group of a Prometheus or an OpenTelemetry collector, which may then scrape port 9127"
  type        = string
  default     = null
}

variable "database_port" {
  description = "Port of the database."
  type        = number
  default     = 5432
}

variable "cluster_arn" {
  description = "ECS cluster. Without it the module makes one."
  type        = string
  default     = null
}

variable "max_client_conn" {
  description = "limits.max_client_conn of each task."
  type        = number
  default     = 1000
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
  default     = 512
}

variable "memory" {
  description = "MiB of a task."
  type        = number
  default     = 1024
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image."
  type        = string
  default     = "X86_64"
}

variable "min_tasks" {
  description = "Fewest tasks."
  type        = number
  default     = 2
}

variable "max_tasks" {
  description = "Most tasks."
  type        = number
  default     = 6
}

variable "init_image" {
  description = "Image with a POSIX shell. It writes configuration and secrets into the task's volume and ends."
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:1.37"
}

variable "log_retention_days" {
  description = "Days that log lines and audit records are kept."
  type        = number
  default     = 400
}
