# pgpassport on Fargate, behind a Network Load Balancer. The tasks have no task role: pgpassport calls STS with the
# person's own token.

locals {
  uid = "65532"

  # Fargate gives a task at most 120 s to stop: these two and 10 s for the goodbyes.
  stop_timeout     = 120
  shutdown_delay   = 25
  shutdown_timeout = 80

  load_balancer_cidrs = [for subnet in data.aws_subnet.load_balancer : subnet.cidr_block]

  proxy_toml = <<-TOML
    [listen]
    addr = "0.0.0.0:5432"
    tls_cert_file = "/etc/pgpassport/server.crt"
    tls_key_file = "/etc/pgpassport/server.key"
    proxy_protocol_from = ${jsonencode(local.load_balancer_cidrs)}

    [limits]
    max_client_conn = ${var.max_client_conn}
    shutdown_delay = "${local.shutdown_delay}s"
    shutdown_timeout = "${local.shutdown_timeout}s"

    [admin]
    addr = "0.0.0.0:9127"
    public = true

    [log]
    format = "json"

    [cancel]
    secret_file = "/etc/pgpassport/cancel.secret"

    ${var.config}
  TOML

  write_files = <<-SH
    umask 077
    cd /etc/pgpassport
    printf '%s\n' "$CONFIG" > proxy.toml
    printf '%s\n' "$CERTIFICATE" > server.crt
    printf '%s\n' "$PRIVATE_KEY" > server.key
    printf '%s\n' "$CANCEL_SECRET" > cancel.secret
    chown -R ${local.uid}:${local.uid} .
  SH

  logs = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this.name
      awslogs-region        = data.aws_region.current.name
      awslogs-stream-prefix = var.name
    }
  }

  containers = [
    {
      name                   = "write-files"
      image                  = var.init_image
      essential              = false
      user                   = "0"
      readonlyRootFilesystem = true
      command                = ["sh", "-ec", local.write_files]
      environment            = [{ name = "CONFIG", value = local.proxy_toml }]
      secrets = [
        { name = "CERTIFICATE", valueFrom = var.certificate_secret_arn },
        { name = "PRIVATE_KEY", valueFrom = var.private_key_secret_arn },
        { name = "CANCEL_SECRET", valueFrom = var.cancel_secret_arn },
      ]
      mountPoints      = [{ sourceVolume = "config", containerPath = "/etc/pgpassport", readOnly = false }]
      logConfiguration = local.logs
    },
    {
      name                   = "pgpassport"
      image                  = var.image
      essential              = true
      user                   = "${local.uid}:${local.uid}"
      readonlyRootFilesystem = true
      dependsOn              = [{ containerName = "write-files", condition = "SUCCESS" }]
      portMappings = [
        { name = "postgres", containerPort = 5432, hostPort = 5432, protocol = "tcp" },
        { name = "admin", containerPort = 9127, hostPort = 9127, protocol = "tcp" },
      ]
      healthCheck = {
        command     = ["CMD", "/usr/local/bin/pgpassport", "health", "--config", "/etc/pgpassport/proxy.toml"]
        interval    = 10
        timeout     = 5
        retries     = 3
        startPeriod = 30
      }
      stopTimeout      = local.stop_timeout
      ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      linuxParameters  = { capabilities = { drop = ["ALL"] }, initProcessEnabled = false }
      mountPoints      = [{ sourceVolume = "config", containerPath = "/etc/pgpassport", readOnly = true }]
      logConfiguration = local.logs
    },
  ]
}

data "aws_region" "current" {}

data "aws_subnet" "load_balancer" {
  for_each = toset(var.load_balancer_subnet_ids)
  id       = each.value
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_cluster" "this" {
  count = var.cluster_arn == null ? 1 : 0
  name  = var.name
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode(local.containers)

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "config"
  }
}

resource "aws_ecs_service" "this" {
  name                               = var.name
  cluster                            = var.cluster_arn == null ? aws_ecs_cluster.this[0].arn : var.cluster_arn
  task_definition                    = aws_ecs_task_definition.this.arn
  launch_type                        = "FARGATE"
  desired_count                      = var.min_tasks
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  # Moving a task to another zone would end its sessions.
  availability_zone_rebalancing = "DISABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "pgpassport"
    container_port   = 5432
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.this]
}

# Reads the image, the secrets, and writes the log. The containers cannot use it.
resource "aws_iam_role" "execution" {
  name = "${var.name}-execution"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_partition" "current" {}

resource "aws_iam_role_policy" "secrets" {
  name = "secrets"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = [var.certificate_secret_arn, var.private_key_secret_arn, var.cancel_secret_arn]
      }],
      var.secrets_kms_key_arn == null ? [] : [{ Effect = "Allow", Action = "kms:Decrypt", Resource = [var.secrets_kms_key_arn] }],
    )
  })
}
