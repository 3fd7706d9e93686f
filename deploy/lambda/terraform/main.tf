# The rotation function as a Terraform module: the same as ../template.yaml. Validated offline by
# `terraform fmt`, not applied: no AWS account was at hand.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.70"
    }
  }
}

variable "name" {
  type        = string
  default     = "rotator"
  description = "What names begin with."
}

variable "zip" {
  type        = string
  description = "The zip that `make lambda` has built."
}

variable "architecture" {
  type    = string
  default = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "arm64 or x86_64, as the zip."
  }
}

variable "runtime" {
  type    = string
  default = "python3.13"
}

variable "secret_arns" {
  type        = list(string)
  description = "Whole ARNs of the secrets that it may rotate. Never with a star."
  validation {
    condition     = length(var.secret_arns) > 0 && !anytrue([for arn in var.secret_arns : strcontains(arn, "*")])
    error_message = "Name each secret by its whole ARN."
  }
}

variable "master_secret_arns" {
  type        = list(string)
  default     = []
  description = "Whole ARNs of the admins' secrets (masterarn), which it may only read."
}

variable "kms_key_arn" {
  type    = string
  default = null
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Such as ROTATOR_GRACE, ROTATOR_STRATEGY, ROTATOR_JOURNAL: docs/lambda.md."
}

variable "subnet_ids" {
  type    = list(string)
  default = []
}

variable "security_group_ids" {
  type    = list(string)
  default = []
}

variable "sweep_schedule" {
  type    = string
  default = "rate(1 hour)"
}

variable "alarm_topic_arns" {
  type    = list(string)
  default = []
}

variable "log_retention_days" {
  type        = number
  default     = 400
  description = "The log is the audit journal where no database is."
}

data "aws_caller_identity" "current" {}

locals {
  functions = {
    rotate = { handler = "rotator.faces.aws_lambda.handler", timeout = 60 }
    sweep  = { handler = "rotator.faces.aws_lambda.sweep", timeout = 300 }
  }
  rotate_arn = aws_lambda_function.rotate.arn
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "rotate" {
  statement {
    sid       = "Find"
    actions   = ["secretsmanager:ListSecrets"]
    resources = ["*"]
  }

  statement {
    sid = "Rotate"
    actions = [
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetSecretValue",
      "secretsmanager:PutSecretValue",
      "secretsmanager:UpdateSecretVersionStage",
      "secretsmanager:TagResource",
    ]
    resources = var.secret_arns
  }

  dynamic "statement" {
    for_each = length(var.master_secret_arns) > 0 ? [1] : []
    content {
      sid       = "Masters"
      actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
      resources = var.master_secret_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.master_secret_arns) > 0 ? [1] : []
    content {
      sid       = "Hosts"
      actions   = ["rds:DescribeDBInstances", "rds:DescribeDBClusters"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for group in aws_cloudwatch_log_group.log : "${group.arn}:*"]
  }

  dynamic "statement" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      sid = "Network"
      actions = [
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DetachNetworkInterface",
      ]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "rotate" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "rotate" {
  role   = aws_iam_role.rotate.id
  policy = data.aws_iam_policy_document.rotate.json
}

resource "aws_cloudwatch_log_group" "log" {
  for_each          = local.functions
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "rotate" {
  function_name    = "${var.name}-rotate"
  description      = "Called by Secrets Manager, once for each step of a rotation."
  handler          = local.functions.rotate.handler
  timeout          = local.functions.rotate.timeout
  runtime          = var.runtime
  architectures    = [var.architecture]
  filename         = var.zip
  source_code_hash = filebase64sha256(var.zip)
  role             = aws_iam_role.rotate.arn
  memory_size      = 256

  environment {
    variables = merge({ ROTATOR_JOURNAL = "log" }, var.environment)
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.log, aws_iam_role_policy.rotate]
}

resource "aws_lambda_function" "sweep" {
  function_name                  = "${var.name}-sweep"
  description                    = "Revokes old logins whose grace is over, and ends what was interrupted."
  handler                        = local.functions.sweep.handler
  timeout                        = local.functions.sweep.timeout
  runtime                        = var.runtime
  architectures                  = [var.architecture]
  filename                       = var.zip
  source_code_hash               = filebase64sha256(var.zip)
  role                           = aws_iam_role.rotate.arn
  memory_size                    = 256
  reserved_concurrent_executions = 1

  environment {
    variables = merge({ ROTATOR_JOURNAL = "log", ROTATOR_FUNCTION_ARN = local.rotate_arn }, var.environment)
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.log, aws_iam_role_policy.rotate]
}

# Without source_account anybody's secret could be rotated by this function: the confused deputy.
resource "aws_lambda_permission" "rotate" {
  function_name  = aws_lambda_function.rotate.function_name
  action         = "lambda:InvokeFunction"
  principal      = "secretsmanager.amazonaws.com"
  source_account = data.aws_caller_identity.current.account_id
}

resource "aws_cloudwatch_event_rule" "sweep" {
  name_prefix         = "${var.name}-sweep-"
  schedule_expression = var.sweep_schedule
}

resource "aws_cloudwatch_event_target" "sweep" {
  rule = aws_cloudwatch_event_rule.sweep.name
  arn  = aws_lambda_function.sweep.arn
}

resource "aws_lambda_permission" "sweep" {
  function_name = aws_lambda_function.sweep.function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.sweep.arn
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each            = { rotate = 300, sweep = 3600 }
  alarm_name          = "${var.name}-${each.key}-fails"
  alarm_description   = "The function's log says to which secret, and what to do."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = "${var.name}-${each.key}" }
  statistic           = "Sum"
  period              = each.value
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

output "rotation_function_arn" {
  value       = local.rotate_arn
  description = "Point your secrets here: aws secretsmanager rotate-secret --rotation-lambda-arn"
}
